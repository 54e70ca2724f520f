"""The link drops while a board is written from afar: its port is free at once, and the next run brings it home."""

import threading
import time
from collections.abc import Callable

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import (
    FACTORY,
    PORT,
    WANTED,
    Fleet,
    flash_holds,
    journal,
    mcu_version,
    outcome,
    strike,
    wait_settled,
)

pytestmark = pytest.mark.lab

#: Of the issue: a port whose link has dropped must not stay locked longer, in seconds.
FREE_SECONDS = 5.0
#: Long enough for a host to give its controller up, write the way back and start Klipper, in seconds.
SILENT_SECONDS = 45.0
CHIP = ["--programmer", "wch_isp", "--wiring", "reset=rts:0,boot=dtr:0", "--chip", "ch32v203c8t6"]

# Takes the lock of a port as a flasher would, or fails.
LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK), fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


@pytest.fixture
def host(fleet: Fleet) -> Host:
    host = fleet.lab.host("printer-4")
    fleet.reset(host)
    return host


def drop(host: Host, dropped: list[float]) -> Callable[[], None]:
    """End every SSH session of the host's user, and remember when."""

    def act() -> None:
        dropped.append(time.monotonic())
        host.run("sudo pkill -KILL -f '^sshd: pi'")

    return act


def test_a_board_written_from_here_is_taken_back_by_its_host_when_the_link_drops(fleet: Fleet, host: Host) -> None:
    inventory = fleet.write_inventory(host.name, printer_4=fleet.describe(host, bmcu={"placement": "controller"}))
    dropped: list[float] = []
    run = fleet.start_pyinfra(inventory)
    strike(host, "bmcu", "program", 15000, drop(host, dropped))
    finished = fleet.finish(run)
    wait_settled(host)
    assert finished.code == 1
    assert finished.line("printer-4/bmcu: restored", "session was lost", "waited in its bootloader")
    failed = next(entry for entry in journal(host) if entry["step"] == "failed")
    # The lab's hosts share this machine's monotonic clock.
    assert failed["monotonic"] - dropped[0] < FREE_SECONDS
    host.wait_klippy("ready", 60.0)
    assert outcome(host)["outcome"] == "restored" and mcu_version(host) == FACTORY

    again = fleet.pyinfra(inventory)
    assert again.code == 0, again.output
    host.wait_klippy("ready", 60.0)
    assert mcu_version(host) == WANTED and flash_holds(host, "bmcu", fleet.lab.image(WANTED).read_bytes())


@full_only
def test_a_host_whose_link_loses_everything_settles_before_the_link_is_back(fleet: Fleet, host: Host) -> None:
    """Nothing is closed, so nobody is told: a printer must not stand still until somebody mends the network."""
    inventory = fleet.write_inventory(host.name, printer_4=fleet.describe(host, bmcu={"placement": "controller"}))
    mended: list[float] = []

    def mend() -> None:
        mended.append(time.monotonic())
        host.link.restore()

    def cut() -> None:
        host.link.cut()
        threading.Timer(SILENT_SECONDS, mend).start()

    run = fleet.start_pyinfra(inventory)
    strike(host, "bmcu", "program", 15000, cut)
    finished = fleet.finish(run)
    wait_settled(host)
    assert finished.code == 1 and finished.line("printer-4/bmcu: restored", "session was lost")
    starting = next(entry for entry in journal(host) if entry["step"] == "starting")
    assert starting["monotonic"] < mended[0]
    host.wait_klippy("ready", 60.0)
    assert mcu_version(host) == FACTORY


def test_a_port_used_by_hand_is_free_when_the_link_drops_and_the_board_is_flashed_again(
    fleet: Fleet, host: Host
) -> None:
    host.run("sudo systemctl stop klipper", check=True)
    control, device = host.board("bmcu").control, PORT.format(1)
    url = f"fleetflash://pi@{host.name}{device}?ssh_config={fleet.lab.ssh_config}"
    command = ["port", "flash", url, str(fleet.lab.image(WANTED)), *CHIP]
    command += ["--way-back", str(fleet.lab.image(FACTORY))]
    dropped: list[float] = []
    run = fleet.start_fleetflash(*command)
    control.pause("program", 15000)
    control.wait_paused(60.0)
    assert host.run(f"sudo python3 -c '{LOCK}' {device}").returncode != 0
    drop(host, dropped)()
    while host.run(f"sudo python3 -c '{LOCK}' {device}").returncode:
        assert time.monotonic() - dropped[0] < FREE_SECONDS, "the port is still locked"
    control.resume()
    finished = fleet.finish(run)
    assert finished.code == 1
    assert finished.line("SSH connection was lost", "waits in its bootloader", "run this command again")
    assert control.status()["mode"] == "bootloader"

    again = fleet.fleetflash(*command)
    assert again.code == 0 and again.line("written and verified", f"runs {WANTED}"), again.output
    assert flash_holds(host, "bmcu", fleet.lab.image(WANTED).read_bytes())
