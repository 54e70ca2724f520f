"""The way back: a fleet goes back to what it ran, stays there, and goes on once somebody lets it."""

import json
from pathlib import Path

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import (
    FACTORY,
    NEXT,
    WANTED,
    Fleet,
    Run,
    flash_holds,
    mcu_version,
    outcome,
    strike,
    wait_settled,
)

pytestmark = pytest.mark.lab

#: One board; two with policy compatible; one that is written from the controller; two with policy exact.
NAMES = ("printer-1", "printer-2", "printer-4", "printer-5")
REFUSED, HELD = 3, 4
PINNED = {"firmware_version": FACTORY}


@pytest.fixture(scope="module")
def hosts(fleet: Fleet) -> list[Host]:
    """Printers that have come from the factory's firmware to what is wanted."""
    found = [fleet.lab.host(name) for name in NAMES]
    fleet.reset(*found)
    run = fleet.pyinfra(inventory(fleet))
    assert run.code == 0, run.output
    return found


def inventory(fleet: Fleet, version: str = WANTED) -> Path:
    changes = {name.replace("-", "_"): {"firmware_version": version} for name in NAMES}
    changes["printer_4"] |= fleet.describe(fleet.lab.host("printer-4"), bmcu={"placement": "controller"})
    changes["printer_5"]["policy"] = "exact"
    return fleet.write_inventory(*NAMES, **changes)


def rollback(fleet: Fleet, *data: str, limit: str = "") -> Run:
    return fleet.pyinfra(inventory(fleet), *data, deploy="deploys/rollback.py", limit=limit)


def problem(fleet: Fleet, host: Host, version: str) -> str:
    """Say which board of a printer does not hold and run a version."""
    host.wait_klippy("ready", 30.0)
    found = {board.spec.name: mcu_version(host, board.spec.mcu) for board in host.boards}
    image = fleet.lab.image(version).read_bytes()
    wrong = [name for name, ran in found.items() if ran != version or not flash_holds(host, name, image)]
    return f"{wrong} of {found}" if wrong else ""


def pids(hosts: list[Host]) -> list[str]:
    return [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in hosts]


def test_printer_goes_back_is_held_there_and_goes_forward_when_it_is_let_go(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-7")
    fleet.reset(host)
    path = fleet.write_inventory(host.name)
    assert fleet.pyinfra(path).code == 0
    pin = f'firmware_version="{FACTORY}"'
    back = fleet.pyinfra(path, pin, deploy="deploys/rollback.py")
    assert back.code == 0 and back.line("1 board: 1 flashed"), back.output
    assert problem(fleet, host, FACTORY) == ""
    running = pids([host])
    again = fleet.pyinfra(path, pin, deploy="deploys/rollback.py")
    assert again.code == 0 and again.line("1 board: 1 already current"), again.output
    held = fleet.pyinfra(path)
    assert held.code == HELD and held.line("printer-7/bmcu: held:", FACTORY, WANTED), held.output
    assert pids([host]) == running
    assert fleet.fleetflash("hold", "clear", str(path), host.name).code == 0
    assert fleet.pyinfra(path).code == 0
    assert problem(fleet, host, WANTED) == ""


@full_only
def test_fleet_goes_back_once_is_held_and_goes_forward_when_it_is_let_go(fleet: Fleet, hosts: list[Host]) -> None:
    pin = f'firmware_version="{FACTORY}"'
    back = rollback(fleet, pin)
    assert back.code == 0 and back.line("6 boards: 6 flashed · Klipper down"), back.output
    assert [problem(fleet, host, FACTORY) for host in hosts] == [""] * len(hosts)

    running = pids(hosts)
    again = rollback(fleet, pin)
    assert again.code == 0 and again.line("6 boards: 6 already current")
    forward = fleet.pyinfra(inventory(fleet))
    assert forward.code == HELD and forward.line("6 boards: 6 held")
    assert forward.line("printer-1/bmcu: held:", FACTORY, WANTED, "fleetflash hold clear INVENTORY printer-1 bmcu")
    status = fleet.pyinfra(inventory(fleet), deploy="deploys/status.py")
    assert status.line("printer-5/bmcu-a: held:")
    assert fleet.plan(inventory(fleet)).code == HELD
    assert pids(hosts) == running

    listed = json.loads(fleet.fleetflash("hold", "list", str(inventory(fleet)), "--json").output)
    assert {(hold["board"], hold["version"], hold["target"]) for hold in listed if hold["host"] == "printer-2"} == {
        ("bmcu-a", FACTORY, "pin"),
        ("bmcu-b", FACTORY, "pin"),
    }
    cleared = fleet.fleetflash("hold", "clear", str(inventory(fleet)), "printer-1")
    assert cleared.code == 0 and cleared.line("printer-1/bmcu: let go, was held at", FACTORY)
    # The others' pin says the same: nothing is left to hold them against, now and when it moves on.
    same = fleet.pyinfra(fleet.write_inventory(*NAMES[1:], **{n.replace("-", "_"): PINNED for n in NAMES[1:]}))
    assert same.code == 0 and same.line("printer-2", "the hold is lifted")
    assert pids(hosts) == running
    released = fleet.pyinfra(inventory(fleet))
    assert released.code == 0 and released.line("6 boards: 6 flashed"), released.output
    assert [problem(fleet, host, WANTED) for host in hosts] == [""] * len(hosts)


@full_only
def test_previous_is_what_ran_before_and_asking_twice_goes_back_once(fleet: Fleet, hosts: list[Host]) -> None:
    assert fleet.pyinfra(inventory(fleet, NEXT)).code == 0
    preview = fleet.fleetflash("plan", str(inventory(fleet)), "--rollback", "--data", "to=factory")
    assert preview.code == 2 and preview.line("printer-1", "bmcu", NEXT, FACTORY, "flash")
    one = rollback(fleet, "to=previous", limit="printer-1")
    assert one.code == 0 and one.line("1 board: 1 flashed"), one.output
    assert [mcu_version(host, host.boards[0].spec.mcu) for host in hosts] == [WANTED, *[NEXT] * (len(hosts) - 1)]
    back = rollback(fleet, "to=previous")
    assert back.code == 0 and back.line("6 boards: 5 flashed, 1 already current"), back.output
    assert [problem(fleet, host, WANTED) for host in hosts] == [""] * len(hosts)
    running = pids(hosts)
    again = rollback(fleet, "to=previous")
    assert again.code == 0 and again.line("6 boards: 6 already current")
    assert pids(hosts) == running


@full_only
def test_missing_image_refuses_its_host_before_anything_stops(fleet: Fleet, hosts: list[Host]) -> None:
    running = pids(hosts)
    refused = rollback(fleet, 'firmware_version="v9.9.9"')
    assert refused.code == REFUSED
    assert refused.line("printer-1/bmcu: refused:", "no artifact klipper-bmcu-c v9.9.9 for ch32v203c8t6")
    number = rollback(fleet, "firmware_version=0.10")
    assert number.code == 1 and number.line("read as the number 0.1", "--data firmware_version='\"0.1\"'")
    assert pids(hosts) == running


@full_only
def test_recovery_restores_what_neither_guard_nor_boot_could_and_says_so(fleet: Fleet) -> None:
    """The agent's own file is gone when its guard needs it: nothing on the host can settle any more."""
    host = fleet.lab.host("printer-6")
    fleet.reset(host)
    path = fleet.write_inventory(host.name)
    run = fleet.start_pyinfra(path)
    kill = "sudo rm -r /var/lib/fleetflash/agent; sudo systemctl kill -s KILL fleetflash.service"
    strike(host, "bmcu", "program", 15000, lambda: host.run(kill))
    fleet.finish(run)
    wait_settled(host)
    assert host.run("ls /run/fleetflash/stopped /etc/systemd/system/fleetflash-settle.service").returncode == 0

    recovered = fleet.pyinfra(path, deploy="deploys/recover.py")
    assert recovered.code == 0, recovered.output
    assert recovered.line("printer-6", "was interrupted after the step", "restored (bmcu restored)")
    assert outcome(host)["outcome"] == "restored"
    assert problem(fleet, host, FACTORY) == ""
    again = fleet.pyinfra(path, deploy="deploys/recover.py")
    assert again.code == 0 and "was interrupted" not in again.output
