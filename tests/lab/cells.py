"""Carries out a cell of the fault matrix on a host of the lab and says what was wrong with what came of it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from tests.lab.cell import (
    ATTENTION,
    BACKUP,
    COMMITTED,
    COMPATIBLE,
    EXACT,
    FAR,
    FLASH,
    IMPOSTURE,
    LOST,
    MISMATCH,
    PLAIN,
    READ,
    RECOVERY,
    RESTORE,
    RESTORED,
    ROLLBACK,
    UNTOUCHED,
    Cell,
)
from tests.lab.fleet import (
    FACTORY,
    NEXT,
    WANTED,
    Fleet,
    Gate,
    flash_holds,
    journal,
    mcu_version,
    outcome,
    strike,
    wait_outcome,
    wait_settled,
)
from tests.lab.kinds import KINDS, SIZE
from tests.lab.strikes import PREPARATIONS, REPAIRS, STRIKES, Scene, kill_agent

#: Which printers can run the cells of a bench.
BENCHES = {
    **dict.fromkeys(["printer-1", "printer-4", "printer-6", "printer-7"], (PLAIN, LOST)),
    **dict.fromkeys(["printer-2", "printer-5"], (EXACT, COMPATIBLE)),
    "printer-8": (FAR,),
}
KIND_BENCHES = {name: (name,) for name in KINDS}
#: No run may take longer than this, in seconds.
PATIENCE = 240.0
#: A settling waits for a board that is gone, in seconds, as often as it tries it: half a minute, four times.
SETTLED = 200.0
#: Faults of the application's start, which no command names.
BOOT = "boot"
DEPLOYS = {
    FLASH: "deploys/flash.py",
    ROLLBACK: "deploys/rollback.py",
    BACKUP: "deploys/backup.py",
    RESTORE: "deploys/flash.py",
    RECOVERY: "deploys/recover.py",
}
RESULTS = {"flashed": COMMITTED, "restored": RESTORED, "needs-attention": ATTENTION, "backed-up": READ}
WORDS = (
    (READ, "committed"),
    (ATTENTION, "needs-attention"),
    (RESTORED, "restored"),
    (UNTOUCHED, "failed"),
    (COMMITTED, "committed"),
)


@dataclass(frozen=True)
class Before:
    """What a host ran before, and what it shall run."""

    former: dict[str, str]
    wanted: str


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
        gate = _gate(fleet, host, cell, before.wanted) if cell.job == RESTORE else None

        def struck_now() -> None:
            if gate is not None and journal(host)[-1]["step"] != "restoring":
                scene.notes.append("it was not the restore that was struck")
            act(scene)

        try:
            strike(host, struck, cell.command, cell.byte, struck_now, deadly=act is kill_agent, gate=gate)
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
    problem = _judge(fleet, host, cell, before) or "; ".join(scene.notes)
    if problem or cell.job != RESTORE or ATTENTION in cell.expected:
        return problem
    return _why_next_run_objects(fleet, host, inventory)


def _gate(fleet: Fleet, host: Host, cell: Cell, wanted: str) -> Gate | None:
    """Where a flash is caught that shall fail as the cell wants it, before what makes it fail."""
    if not cell.failure:
        return None
    if cell.failure == MISMATCH:
        return Gate("verify", 0, {"kind": "wrong_status", "command": "verify", "byte": 15000, "status": 0xF5})
    fault = {"kind": "other_version", "version": wanted}
    if cell.failure != IMPOSTURE:
        fault = {"kind": "hang", "command": "klipper", "version": wanted}
    if host.name in KINDS:
        return Gate("read", fleet.offset(host) + SIZE - 1, fault)
    return Gate("end", 0, fault)


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


def _judge(fleet: Fleet, host: Host, cell: Cell, before: Before) -> str:
    """Compare a host at rest with what was written down."""
    wait_settled(host, SETTLED)
    wait_outcome(host, SETTLED)
    came = outcome(host)
    found = {name: RESULTS.get(board["result"], UNTOUCHED) for name, board in came["boards"].items()}
    expected = {board.spec.name: result for board, result in zip(host.boards, cell.expected, strict=True)}
    if found != expected:
        return f"expected {expected}, came {found}: {came['outcome']}: {came['detail']}"
    word = next(word for result, word in WORDS if result in cell.expected)
    if came["outcome"] not in (word, "refused" if word == "failed" else word):
        return f"boards {found}, but the outcome is {came['outcome']}: {came['detail']}"
    if not 0 <= came["downtime"] < PATIENCE:
        return f"Klipper was down {came['downtime']} s"
    problem = _why_attention(host) if ATTENTION in cell.expected else _why_not_well(fleet, host, expected, before)
    if problem:
        return problem
    left = host.run(
        "ls /run/fleetflash/busy /var/lib/fleetflash/reserve /etc/systemd/system/*fleetflash* "
        "/run/systemd/system/klipper.service.d"
    ).stdout
    if left:
        return f"left behind: {left}"
    if problem := _why_not_held(
        host, {name for name in expected if cell.job == ROLLBACK and expected[name] == COMMITTED}
    ):
        return problem
    if cell.bench != LOST and cell.job != BACKUP and host.run("ls /var/lib/fleetflash/images/*.bin").returncode:
        return "the way back is gone"
    return ""


def _why_not_well(fleet: Fleet, host: Host, expected: dict[str, str], before: Before) -> str:
    try:
        host.wait_klippy("ready", 60.0)
    except Exception as error:
        return f"Klipper is not back: {error}"
    for board in host.boards:
        name = board.spec.name
        version = before.wanted if expected[name] == COMMITTED else before.former[name]
        if mcu_version(host, board.spec.mcu) != version:
            return f"{name} runs {mcu_version(host, board.spec.mcu)}, expected {version}"
        if not flash_holds(host, name, fleet.image(host, version), fleet.offset(host)):
            return f"the flash of {name} does not hold {version}"
    return ""


def _why_next_run_objects(fleet: Fleet, host: Host, inventory: Path) -> str:
    """Whatever has been struck is over: there is nothing to settle any more."""
    run = fleet.pyinfra(inventory, deploy=DEPLOYS[RECOVERY])
    return f"the next run ends with {run.code}: {run.output}" if run.code or "interrupted" in run.output else ""


def _why_not_held(host: Host, expected: set[str]) -> str:
    """A rollback holds what it has committed; the next cell's run is no rollback, and is let go."""
    held = {path.removesuffix(".json") for path in host.run("ls /var/lib/fleetflash/holds").stdout.split()}
    host.run("sudo rm -rf /var/lib/fleetflash/holds", check=True)
    return "" if held == expected else f"{held} are held, expected {expected}"


def _why_attention(host: Host) -> str:
    """A board that has no way back is latched, and its printer's service runs for all that."""
    if host.run("systemctl is-active klipper").stdout.strip() != "active":
        return "klipper.service was left stopped"
    if host.run(f"test -e /var/lib/fleetflash/attention/{host.boards[-1].spec.name}.json").returncode:
        return "needs-attention is not latched"
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
