"""Canaries go first, and printers that print are waited for, all inside the stock command."""

import threading

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import FACTORY, WANTED, Fleet, mcu_version

pytestmark = pytest.mark.lab

NAMES = ("printer-1", "printer-4", "printer-6")
FAILED, DEFERRED = 1, 4


@pytest.fixture
def hosts(fleet: Fleet) -> list[Host]:
    found = [fleet.lab.host(name) for name in NAMES]
    fleet.reset(*found)
    return found


def test_canary_that_fails_leaves_the_rest_untouched(fleet: Fleet, hosts: list[Host]) -> None:
    hosts[0].board("bmcu").control.ask("fault", kind="wrong_status", command="program", byte=15000)
    run = fleet.pyinfra(fleet.write_inventory(*NAMES), "canary=1")
    assert run.code == FAILED
    assert run.line("printer-1/bmcu: restored:")
    for name in NAMES[1:]:
        assert run.line(f"{name}/bmcu: deferred:", "1 of 1 canaries failed (printer-1)")
    assert [mcu_version(host) for host in hosts] == [FACTORY] * 3
    assert all(host.board("bmcu").control.status()["erases"] == 0 for host in hosts[1:])


def test_rest_follows_canaries_that_are_well(fleet: Fleet, hosts: list[Host]) -> None:
    run = fleet.pyinfra(fleet.write_inventory(*NAMES), "canary=1")
    assert run.code == 0 and run.line("3 boards: 3 flashed")
    assert [mcu_version(host) for host in hosts] == [WANTED] * 3


@full_only
def test_allowed_share_of_failed_canaries_lets_the_rest_go_on(fleet: Fleet, hosts: list[Host]) -> None:
    hosts[0].board("bmcu").control.ask("fault", kind="wrong_status", command="program", byte=15000)
    run = fleet.pyinfra(fleet.write_inventory(*NAMES), "canary=2", "max_failed_percent=50")
    assert run.code == FAILED and run.line("printer-1/bmcu: restored:")
    assert [mcu_version(host) for host in hosts] == [FACTORY, WANTED, WANTED]


@full_only
def test_printer_that_prints_is_flashed_once_it_is_idle(fleet: Fleet, hosts: list[Host]) -> None:
    printing = hosts[1]
    printing.start_print()
    stop = threading.Timer(12.0, printing.stop_print)
    stop.start()
    try:
        run = fleet.pyinfra(fleet.write_inventory(*NAMES), "wait_idle=90s")
    finally:
        stop.join()
    assert run.code == 0 and run.line("3 boards: 3 flashed")
    assert mcu_version(printing) == WANTED


def test_printer_that_prints_for_longer_is_deferred(fleet: Fleet, hosts: list[Host]) -> None:
    printing = hosts[1]
    printing.start_print()
    try:
        run = fleet.pyinfra(fleet.write_inventory(*NAMES), "wait_idle=2s")
        assert printing.moonraker.print_state() == "printing"
    finally:
        printing.stop_print()
    assert run.code == DEFERRED and run.line("printer-4/bmcu: deferred:", "printing")
    assert [mcu_version(host) for host in hosts] == [WANTED, FACTORY, WANTED]
