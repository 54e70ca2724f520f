"""Faults of gateways, hosts and controllers while a gateway is written, wherever esptool runs.

Each cell says what must come of it. Whatever that is: a gateway with power boots a whole firmware, Klipper runs, and
the next run brings the gateway to what it shall be. Part of ``make test-full``.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import NEXT, WANTED, outcome, strike, wait_outcome, wait_settled
from tests.lab.gateways import APP, APP_SIZE, Gateways, gateways, status

pytestmark = [pytest.mark.lab, full_only]

HERE, LENT = "printer-1", "printer-2"
FIRST, MIDDLE, LAST = APP, APP + APP_SIZE // 2, APP + APP_SIZE - 0x200
WRITTEN, BACK, FAILED, STUCK = "committed", "restored", "failed", "needs-attention"


@dataclass(frozen=True)
class Cell:
    """``fault`` strikes the gateway's ``command`` at ``byte``; ``result`` is what the transaction must come to."""

    host: str
    fault: str
    command: str = "program"
    byte: int | None = MIDDLE
    count: int = 1
    result: str = BACK

    def __str__(self) -> str:
        return f"{self.host}-{self.fault}-{self.command}-{self.byte or 0:x}-{self.count}"


def cells() -> Iterator[Cell]:
    for host in (HERE, LENT):
        for byte in (FIRST, MIDDLE, LAST):
            for fault in ("drop", "hang", "corrupt", "garbage"):
                yield Cell(host, fault, byte=byte)
            # Nobody gives it power again before its way back has been tried four times.
            yield Cell(host, "power_cut", byte=byte, result=STUCK)
            # esptool asks again for a block that was refused.
            yield Cell(host, "wrong_status", byte=byte, result=WRITTEN)
        # Every attempt begins with a reset, which ends what hangs.
        yield Cell(host, "hang", "identify", None, result=WRITTEN)
        yield Cell(host, "hang", "stub", None, result=FAILED)
        yield Cell(host, "hang", "verify", MIDDLE)
        yield Cell(host, "refuse_bootloader", "", None, count=60, result=FAILED)
        yield Cell(host, "boot_loop", "", None, count=8)


STRIKES: dict[str, Callable[[Host], None]] = {
    "agent-killed": lambda host: void(host.run("sudo systemctl kill -s KILL fleetflash.service", check=True)),
    "power-cut": lambda host: host.crash(),
}

CHOSEN = [cell for cell in cells() if re.search(os.environ.get("FLEETFLASH_CELL", ""), str(cell))]


def void(_result: object) -> None:
    """For an act whose result nobody needs."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    require_lab()
    with gateways("test-gw-faults", "10.71.0", tmp_path_factory.mktemp("gateways")) as fleet:
        yield fleet


def ready(fleet: Gateways, name: str) -> Host:
    """The gateway runs ``WANTED``, and nothing is wrong with it."""
    host = fleet.lab.host(name)
    control = host.board("gateway").control
    control.ask("clear_faults")
    if status(host)["mode"] == "off":
        control.ask("power", on=True)
    fleet.fleetflash("board", "clear", str(fleet.write_inventory(name)), name, "gateway")
    done = fleet.flash(name, WANTED)
    assert done.code == 0, done.output
    return host


def converges(fleet: Gateways, host: Host) -> None:
    """The next run writes what must be there, and Klipper runs."""
    control = host.board("gateway").control
    control.ask("clear_faults")
    if status(host)["mode"] == "off":
        control.ask("power", on=True)
    assert host.run("systemctl is-active klipper", check=True).stdout.strip() == "active"
    fleet.fleetflash("board", "clear", str(fleet.write_inventory(host.name)), host.name, "gateway")
    again = fleet.flash(host.name, NEXT)
    assert again.code == 0, again.output
    assert (status(host)["version"], status(host)["mode"]) == (NEXT, "application")


@pytest.mark.parametrize("cell", CHOSEN, ids=str)
def test_a_fault_of_the_gateway(fleet: Gateways, cell: Cell) -> None:
    host = ready(fleet, cell.host)
    strikes = {"command": cell.command, "byte": cell.byte, "count": cell.count}
    where = {name: value for name, value in strikes.items() if value not in ("", None)}
    planned = host.board("gateway").control.ask("fault", kind=cell.fault, **where)
    assert planned["ok"], planned
    run = fleet.flash(cell.host, NEXT)
    result = outcome(host)["boards"]["gateway"]["result"].replace("flashed", WRITTEN)
    assert result == cell.result, run.output
    assert run.code == (0 if cell.result == WRITTEN else 1)
    if cell.result == STUCK:
        assert status(host)["mode"] == "off", run.output
    else:
        expected = NEXT if cell.result == WRITTEN else WANTED
        assert (status(host)["version"], status(host)["mode"]) == (expected, "application"), run.output
    converges(fleet, host)


@pytest.mark.parametrize("byte", [FIRST, MIDDLE, LAST])
@pytest.mark.parametrize("act", STRIKES)
@pytest.mark.parametrize("name", [HERE, LENT])
def test_a_death_while_the_gateway_is_written(fleet: Gateways, name: str, act: str, byte: int) -> None:
    host = ready(fleet, name)
    boards = fleet.inventory[name]["boards"]
    changed = {**boards, "gateway": {**boards["gateway"], "firmware_version": NEXT}}
    inventory = fleet.write_inventory(name, **{name.replace("-", "_"): {"boards": changed}})
    running = fleet.start_pyinfra(inventory)
    strike(host, "gateway", "program", byte, lambda: STRIKES[act](host))
    if act == "power-cut":
        running.kill()
    running.wait(180)
    if host.phase == "off":
        host.start()
    wait_outcome(host)
    wait_settled(host)
    if name == HERE or act == "agent-killed":
        # The controller that follows lends its esptool to whoever settles, too.
        assert outcome(host)["boards"]["gateway"]["result"] == BACK
        assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    else:
        # Nobody but a controller can write it: the next one does.
        assert outcome(host)["boards"]["gateway"]["result"] == FAILED
    converges(fleet, host)
