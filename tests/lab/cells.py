"""Carries out a cell of the fault matrix on a host of the lab and says what was wrong with what came of it."""

import time
from pathlib import Path
from typing import Any

from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from tests.lab.cell import (
    ATTENTION,
    BACKUP,
    COMPATIBLE,
    EXACT,
    FAR,
    FLASH,
    LOST,
    MISMATCH,
    PLAIN,
    RECOVERY,
    RESTORE,
    ROLLBACK,
    SILENCE,
    Cell,
)
from tests.lab.fleet import (
    FACTORY,
    NEXT,
    WANTED,
    Fleet,
    Gate,
    mcu_version,
    strike,
    wait_settled,
)
from tests.lab.judgement import PATIENCE, SETTLED, Before, judge, why_not_the_restore
from tests.lab.kinds import KINDS, SIZE
from tests.lab.strikes import PREPARATIONS, REPAIRS, STRIKES, Scene, kill_agent

#: Which printers can run the cells of a bench.
BENCHES = {
    **dict.fromkeys(["printer-1", "printer-4", "printer-6", "printer-7"], (PLAIN, LOST)),
    **dict.fromkeys(["printer-2", "printer-5"], (EXACT, COMPATIBLE)),
    "printer-8": (FAR,),
}
KIND_BENCHES = {name: (name,) for name in KINDS}
#: Faults of the application's start, which no command names.
BOOT = "boot"
DEPLOYS = {
    FLASH: "deploys/flash.py",
    ROLLBACK: "deploys/rollback.py",
    BACKUP: "deploys/backup.py",
    RESTORE: "deploys/flash.py",
    RECOVERY: "deploys/recover.py",
}


def run_cell(fleet: Fleet, host: Host, cell: Cell) -> str:
    """Return what is wrong, or an empty string. The host is left healthy, whatever firmware it runs."""
    before = _ready(fleet, host)
    struck = host.boards[-1].spec.name
    boards: dict[str, dict[str, Any]] = {}
    for board in host.boards:
        name = board.spec.name
        boards[name.replace("-", "_")] = {
            "firmware_version": before.wanted,
            "placement": cell.placement,
            "accept_no_way_back": cell.bench == LOST,
            "uid": board.control.status()["uid"] if cell.fault == "impostor" else "",
        }
    data = {**fleet.describe(host, **boards), "policy": EXACT if cell.bench == EXACT else COMPATIBLE}
    inventory = fleet.write_inventory(host.name, **{host.name.replace("-", "_"): data})
    store = fleet.store_of(host, before.wanted) if cell.bench == LOST or cell.read_back else ""
    if cell.read_back:
        # What the ledger says of it would name an image.
        host.run("sudo rm -rf /var/lib/fleetflash", check=True)
    if cell.fault in PREPARATIONS:
        PREPARATIONS[cell.fault](host)
    if cell.job == RECOVERY:
        _die_in_the_middle(fleet, host, inventory, _gate(fleet, host, cell, before.wanted))
    if cell.fault not in STRIKES:
        _plan_fault(host, struck, cell, before.wanted)
    data_of = {ROLLBACK: (f'firmware_version="{before.wanted}"',)}
    run = fleet.start_pyinfra(inventory, *data_of.get(cell.job, ()), deploy=DEPLOYS[cell.job], store=store)
    scene = Scene(fleet, host, struck, run, inventory)
    if cell.fault in STRIKES:
        act = STRIKES[cell.fault]
        gate = _gate(fleet, host, cell, before.wanted) if cell.job != RECOVERY else None
        try:
            strike(
                host, struck, cell.command, cell.byte, lambda: scene.strike(act), deadly=act is kill_agent, gate=gate
            )
        except LabError as error:
            run.kill()
            return f"{error}; the run said: {fleet.finish(run).output}"
    problem = _finish(scene, repower=cell.fault == "power_cut")
    if problem:
        return problem
    if cell.fault not in ("power-cut", "power-cut-with-boards", "host-reboots"):
        wait_settled(host, SETTLED)
        active = host.run("systemctl is-active klipper").stdout.strip()
        # One that does not start is started again and again, as its unit says.
        if active not in ("active", "activating" if cell.fault == "klipper-does-not-start" else ""):
            return f"klipper.service is {active}"
    if cell.fault in REPAIRS:
        REPAIRS[cell.fault](host)
    host.board(struck).control.ask("clear_faults")
    if cell.hands:
        host.board(struck).control.ask("tap")
        host.run("sudo systemctl restart klipper", check=True)
    problem = judge(fleet, host, cell, before) or "; ".join(scene.notes)
    if problem or not cell.failure or cell.job == RECOVERY or ATTENTION in cell.expected:
        return problem
    return why_not_the_restore(host, scene.at) or _why_next_run_objects(fleet, inventory)


def _why_next_run_objects(fleet: Fleet, inventory: Path) -> str:
    """Whatever has been struck is over: there is nothing to settle any more."""
    run = fleet.pyinfra(inventory, deploy=DEPLOYS[RECOVERY])
    return f"the next run ends with {run.code}: {run.output}" if run.code or "interrupted" in run.output else ""


def _gate(fleet: Fleet, host: Host, cell: Cell, wanted: str) -> Gate | None:
    """Where a flash is caught that shall fail as the cell wants it, before what makes it fail."""
    if not cell.failure:
        return None
    if cell.failure == MISMATCH:
        return Gate("verify", 0, ({"kind": "wrong_status", "command": "verify", "byte": 15000, "status": 0xF5},))
    fault: dict[str, Any] = {"kind": "other_version", "version": wanted}
    if cell.failure == SILENCE:
        fault = {"kind": "drop", "command": "klipper", "count": 100000, "version": wanted}
    if host.name in KINDS:
        return Gate("read", fleet.offset(host) + SIZE - 1, (fault,))
    return Gate("end", 0, (fault,))


def _die_in_the_middle(fleet: Fleet, host: Host, inventory: Path, gate: Gate | None) -> None:
    """Have a flash die while it writes, with the agent's own file, so that neither guard nor boot can settle it.

    Behind a ``gate``, it is the restore that dies.
    """
    board = host.boards[-1].spec.name
    run = fleet.start_pyinfra(inventory)
    kill = "sudo rm -r /var/lib/fleetflash/agent; sudo systemctl kill -s KILL fleetflash.service"
    strike(host, board, "program", 15000, lambda: host.run(kill), deadly=True, gate=gate)
    run.kill()
    fleet.finish(run)
    wait_settled(host)


def _plan_fault(host: Host, board: str, cell: Cell, wanted: str) -> None:
    fields: dict[str, Any] = {"kind": cell.fault, "count": cell.count, "status": cell.status}
    if cell.command != BOOT:
        fields.update(command=cell.command, byte=cell.byte)
    if cell.new_only:
        fields["version"] = wanted
    host.board(board).control.ask("fault", **fields)


def _finish(scene: Scene, repower: bool) -> str:
    """Wait for a run; give a board that lost its power its power back."""
    board = scene.host.board(scene.board)
    deadline = time.monotonic() + PATIENCE
    while scene.run.poll() is None:
        if time.monotonic() > deadline:
            scene.run.kill()
            return "hangs"
        if repower and board.control.status()["mode"] == "off":
            time.sleep(0.5)
            board.control.power(True)
        time.sleep(0.1)
    scene.run.communicate()
    for thread in scene.threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            return "a second controller hangs"
    return ""


def _ready(fleet: Fleet, host: Host) -> Before:
    """Return what the host runs, after bringing it to the factory's firmware if it isn't well."""
    former = _healthy(host)
    if not former:
        fleet.reset(host)
        former = {board.spec.name: FACTORY for board in host.boards}
    wanted = next(version for version in (WANTED, FACTORY, NEXT) if version not in former.values())
    return Before(former, wanted)


def _healthy(host: Host) -> dict[str, str]:
    """Return board → version when nothing is wrong with the host, otherwise nothing."""
    try:
        for board in host.boards:
            board.control.ask("clear_faults")
        host.wait_klippy("ready", 5.0)
        former = {board.spec.name: mcu_version(host, board.spec.mcu) for board in host.boards}
    except Exception:
        return {}
    known = set(former.values()) <= {FACTORY, WANTED, NEXT}
    return former if known and host.run("ls /var/lib/fleetflash/attention/*").returncode else {}
