"""Boards that need a person at their button: asked at the right moment, with a deadline, while other hosts go on."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetflash.cli.demo import HANDS
from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import FACTORY, WANTED, Fleet, Run, mcu_version, outcome

pytestmark = pytest.mark.lab


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """The printer whose board has nothing but a button."""
    host = fleet.lab.host("printer-3")
    fleet.reset(host)
    return host


def inventory(fleet: Fleet, host: Host, *others: str, seconds: float = 60.0) -> Path:
    board = {"entry": "button", "wiring": "", "hands_seconds": seconds, "gesture": "hold B, tap R"}
    return fleet.write_inventory(host.name, *others, printer_3=fleet.describe(host, bmcu=board))


def attend(process: "subprocess.Popen[str]", act: Callable[[int], None]) -> tuple[Run, int]:
    """Call ``act(n)`` whenever the run asks for hands for the nth time; return the run and how often it asked."""
    assert process.stdout is not None
    output, asked = "", 0
    for line in process.stdout:
        output += line
        if HANDS.search(line):
            asked += 1
            act(asked)
    return Run(process.wait(), output), asked


def press(host: Host) -> None:
    time.sleep(0.5)
    host.board("bmcu").control.press()


@full_only
def test_other_hosts_go_on_while_a_person_is_on_the_way(fleet: Fleet, host: Host) -> None:
    other = fleet.lab.host("printer-1")
    fleet.reset(other)

    def arrive(asked: int) -> None:
        deadline = time.monotonic() + 50
        while other.board("bmcu").control.status()["version"] != WANTED and time.monotonic() < deadline:
            time.sleep(0.2)
        other.wait_klippy("ready", 30.0)
        assert mcu_version(other) == WANTED
        assert host.board("bmcu").control.status()["erases"] == 0
        press(host)

    run, asked = attend(fleet.start_pyinfra(inventory(fleet, host, other.name), "attended=true"), arrive)
    assert run.code == 0 and asked == 1
    assert run.line("[printer-3]", "bmcu: NOW:", "hold B, tap R", "60 s")
    assert run.line("2 boards: 2 flashed")
    assert mcu_version(host) == WANTED


def test_nobody_comes_and_the_printer_is_as_it_was(fleet: Fleet, host: Host) -> None:
    run, asked = attend(fleet.start_pyinfra(inventory(fleet, host, seconds=3), "attended=true"), lambda _: None)
    assert run.code == 1 and asked == 1
    assert run.line("printer-3/bmcu: failed:", "nobody brought the board into its bootloader within 3 s")
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == FACTORY
    assert host.board("bmcu").control.status()["erases"] == 0


def test_way_back_asks_for_hands_again(fleet: Fleet, host: Host) -> None:
    host.board("bmcu").control.ask("fault", kind="wrong_status", command="program", byte=15000)
    run, asked = attend(fleet.start_pyinfra(inventory(fleet, host), "attended=true"), lambda _: press(host))
    assert run.code == 1
    # The bootloader is still there after the first failure, unless its board was reset meanwhile.
    assert asked >= 1 and outcome(host)["outcome"] == "restored"
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == FACTORY


@full_only
def test_way_back_that_nobody_helps_is_latched_with_what_to_do(fleet: Fleet, host: Host) -> None:
    """The board's power dips while it is written: only its button could bring the bootloader back."""
    control = host.board("bmcu").control
    control.ask("fault", kind="power_cut", command="program", byte=15000)

    def once(asked: int) -> None:
        if asked == 1:
            press(host)
        elif asked == 2:
            control.power(True)

    waiting = inventory(fleet, host, seconds=2)
    run, asked = attend(fleet.start_pyinfra(waiting, "attended=true"), once)
    assert run.code == 1 and asked > 2
    assert run.line("printer-3/bmcu: needs-attention:", "nobody brought the board into its bootloader")
    assert host.run("systemctl is-active klipper").stdout.strip() == "active"
    assert fleet.fleetflash("board", "clear", str(waiting), host.name, "bmcu").code == 0
    again, _ = attend(fleet.start_pyinfra(inventory(fleet, host), "attended=true"), lambda _: press(host))
    assert again.code == 0 and again.line("1 board: 1 flashed")
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == WANTED
