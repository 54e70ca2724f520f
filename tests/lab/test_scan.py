"""``fleetflash scan`` prints an inventory that can be used as it is, and says what a person has to look at."""

from typing import Any

import pytest

from tests.lab.fleet import PORT, Fleet, Run

pytestmark = pytest.mark.lab

CONFIG = "/home/pi/printer_data/config/printer.cfg"
BY_ID = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"


def scan(fleet: Fleet, *hosts: str) -> Run:
    return fleet.fleetflash("scan", "--ssh-config", str(fleet.lab.ssh_config), *(f"pi@{host}" for host in hosts))


def entries(run: Run) -> dict[str, Any]:
    """What the printed Python says."""
    namespace: dict[str, Any] = {}
    exec("\n".join(line for line in run.output.splitlines() if not line.startswith("fleetflash scan:")), namespace)
    return dict(namespace["klipper_hosts"])


def test_entry_names_boards_by_their_place_and_by_klippys_names(fleet: Fleet) -> None:
    # Whatever the tests before have left of them.
    fleet.reset(*(fleet.lab.host(name) for name in ("printer-2", "printer-4")))
    run = scan(fleet, "printer-2", "printer-4")
    assert run.code == 0 and run.line("#", "klipper.service is active")
    found = entries(run)
    assert found["printer-4"] == {"ssh_user": "pi", "boards": {"mcu": {"port": PORT.format(1), "klippy_mcu": "mcu"}}}
    boards = found["printer-2"]["boards"]
    assert [(name, board["port"]) for name, board in boards.items()] == [
        ("mcu", PORT.format(1)),
        ("bmcu_b", PORT.format(2)),
    ]


def test_host_that_is_off_does_not_hide_the_others(fleet: Fleet) -> None:
    run = scan(fleet, "nowhere", "printer-4")
    assert run.code == 3 and run.line("fleetflash scan:", "nowhere")
    assert list(entries(run)) == ["printer-4"]
    assert "Traceback" not in run.output


def test_name_that_two_boards_share_is_pointed_out(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-5")
    host.run(
        f"sed -i.before 's#{PORT.format(2)}#{BY_ID}#' {CONFIG} && sudo systemctl restart klipper && sleep 1", check=True
    )
    try:
        host.wait_klippy("ready", 30.0)
        assert scan(fleet, "printer-5").line("bmcu_b", "AMBIGUOUS", "ttyUSB0", "ttyUSB1", BY_ID)
    finally:
        host.run(f"mv {CONFIG}.before {CONFIG} && sudo systemctl restart klipper", check=True)
    host.wait_klippy("ready", 30.0)
