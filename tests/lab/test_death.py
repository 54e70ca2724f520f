"""Whoever dies, and wherever it strikes: the printer comes back, and the next run knows what happened.

The simulated board pauses before it executes a chosen command; then the controller, the SSH session or the agent is
killed, and the board goes on. Nothing in the product knows that it is being tested.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import (
    FACTORY,
    WANTED,
    Fleet,
    flash_holds,
    journal,
    mcu_version,
    outcome,
    strike,
    wait_outcome,
    wait_settled,
)

pytestmark = pytest.mark.lab

#: A command of the board's bootloader (or ``klipper``: its new firmware's first word) and the byte that it is about.
STEPS = [
    ("identify", 0),
    ("erase", 0),
    ("program", 0),
    ("program", 15000),
    ("verify", 15000),
    ("end", 0),
    ("klipper", 0),
]
#: Each printer takes its share of the steps, so that several are struck side by side.
PRINTERS = ["printer-1", "printer-4", "printer-6", "printer-7", "printer-8"]


@dataclass
class Struck:
    """What came of one strike."""

    host: str
    step: str
    problem: str


@pytest.fixture(autouse=True)
def fresh(fleet: Fleet) -> Iterator[None]:
    fleet.reset(*(fleet.lab.host(name) for name in PRINTERS))
    yield


def everywhere(fleet: Fleet, check: Callable[[Host, str, int], str]) -> list[Struck]:
    """Run ``check`` for every step, spread over the printers; return those that report a problem."""

    def share(index: int) -> list[Struck]:
        host = fleet.lab.host(PRINTERS[index])
        found = []
        for command, byte in STEPS[index :: len(PRINTERS)]:
            fleet.reset(host)
            problem = check(host, command, byte)
            if problem:
                found.append(Struck(host.name, f"{command}@{byte}", problem))
        return found

    with ThreadPoolExecutor(len(PRINTERS)) as pool:
        return [struck for share_found in pool.map(share, range(len(PRINTERS))) for struck in share_found]


def check_flashed(fleet: Fleet, host: Host) -> str:
    """Say what is wrong with a host that must have been brought to the wanted firmware."""
    host.wait_klippy("ready", 60.0)
    if mcu_version(host) != WANTED:
        return f"runs {mcu_version(host)}"
    if not flash_holds(host, "bmcu", fleet.lab.image(WANTED).read_bytes()):
        return "the flash differs from the artifact"
    return ""


def test_transaction_completes_when_the_controller_is_killed(fleet: Fleet) -> None:
    def check(host: Host, command: str, byte: int) -> str:
        inventory = fleet.write_inventory(host.name)
        run = fleet.start_pyinfra(inventory)
        strike(host, "bmcu", command, byte, run.kill)
        assert run.wait() == -signal.SIGKILL
        wait_settled(host)
        if outcome(host)["outcome"] != "committed":
            return f"outcome {outcome(host)}"
        following = fleet.pyinfra(inventory)
        if following.code or "of an earlier run: committed" not in following.output:
            return f"the next run does not report it: {following.output}"
        again = fleet.pyinfra(inventory)
        if "of an earlier run" in again.output or "No changes" not in again.output:
            return f"the run after that is not quiet: {again.output}"
        return check_flashed(fleet, host)

    assert everywhere(fleet, check) == []


@full_only
def test_transaction_completes_and_is_followed_when_the_ssh_session_is_killed(fleet: Fleet) -> None:
    def check(host: Host, command: str, byte: int) -> str:
        run = fleet.start_pyinfra(fleet.write_inventory(host.name))
        kill = lambda: host.run("sudo pkill -KILL -f '^sshd: pi'")  # noqa: E731
        strike(host, "bmcu", command, byte, kill)
        finished = fleet.finish(run)
        if finished.code or "1 board: 1 flashed" not in finished.output:
            return f"the run did not follow it to its end: {finished.output}"
        return check_flashed(fleet, host)

    assert everywhere(fleet, check) == []


def test_former_firmware_and_klipper_are_back_when_the_agent_is_killed(fleet: Fleet) -> None:
    def check(host: Host, command: str, byte: int) -> str:
        run = fleet.start_pyinfra(fleet.write_inventory(host.name))
        kill = lambda: host.run("sudo systemctl kill -s KILL fleetflash.service")  # noqa: E731
        strike(host, "bmcu", command, byte, kill, deadly=True)
        finished = fleet.finish(run)
        wait_settled(host)
        host.wait_klippy("ready", 60.0)
        if command == "klipper" and finished.code == 0:
            # klippy was ready with what had been verified before anybody could take it back.
            return check_flashed(fleet, host)
        if finished.code != 1:
            return f"exit code {finished.code}: {finished.output}"
        if outcome(host)["outcome"] != ("failed" if command == "identify" else "restored"):
            return f"outcome {outcome(host)}"
        if mcu_version(host) != FACTORY:
            return f"runs {mcu_version(host)}"
        steps = [entry["step"] for entry in journal(host)]
        if ("writing" in steps) != ("restored" in steps):
            return f"journal {steps}"
        left = host.run(
            "ls /run/fleetflash/busy /etc/systemd/system/fleetflash-settle.service /run/systemd/system/*.d/*fleet*"
        )
        return f"left behind: {left.stdout}" if left.stdout else ""

    assert everywhere(fleet, check) == []


def test_board_written_from_the_controller_is_restored_on_the_host_when_the_controller_is_killed(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-4")
    fleet.reset(host)
    changes = {"printer_4": fleet.describe(host, bmcu={"placement": "controller"})}
    run = fleet.start_pyinfra(fleet.write_inventory(host.name, **changes))
    strike(host, "bmcu", "program", 15000, run.kill)
    run.wait()
    wait_settled(host)
    host.wait_klippy("ready", 60.0)
    assert outcome(host)["outcome"] == "restored"
    assert mcu_version(host) == FACTORY


def test_host_that_lost_its_power_restores_before_klipper_starts(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-6")
    run = fleet.start_pyinfra(fleet.write_inventory(host.name))
    strike(host, "bmcu", "program", 15000, lambda: host.crash(keep_boards=True))
    run.kill()
    run.wait()
    host.start()
    wait_outcome(host)
    host.wait_klippy("ready", 90.0)
    assert outcome(host)["outcome"] == "restored"
    assert mcu_version(host) == FACTORY
