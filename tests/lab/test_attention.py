"""A board that no way back reaches is latched for a person; its printer runs, and nobody writes to it meanwhile."""

import pytest

from tests.lab.fleet import WANTED, Fleet, mcu_version, outcome

pytestmark = pytest.mark.lab


def test_board_that_resists_its_way_back_is_latched_until_cleared(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-6")
    fleet.reset(host)
    inventory = fleet.write_inventory(host.name)
    control = host.board("bmcu").control
    control.ask("fault", kind="wrong_status", command="program", byte=15000, count=1000)

    run = fleet.pyinfra(inventory)
    assert run.code == 1
    assert run.line("printer-6/bmcu: needs-attention:", "program", "0x3a", "status fe")
    assert outcome(host)["outcome"] == "needs-attention"
    assert host.run("systemctl is-active klipper").stdout.strip() == "active"

    latched = fleet.pyinfra(inventory)
    assert latched.code == 3
    assert latched.line("printer-6/bmcu: refused: needs attention", "fleetflash board clear INVENTORY printer-6 bmcu")
    status = fleet.pyinfra(inventory, deploy="deploys/status.py")
    assert status.line("printer-6/bmcu", "needs attention")

    control.ask("clear_faults")
    cleared = fleet.fleetflash("board", "clear", str(inventory), "printer-6", "bmcu")
    assert cleared.code == 0 and cleared.line("printer-6/bmcu: cleared:", "status fe")
    again = fleet.pyinfra(inventory)
    assert again.code == 0 and again.line("printer-6", "bmcu", "flashed")
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == WANTED
