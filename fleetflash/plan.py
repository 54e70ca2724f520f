"""What has to be done: desired state × observed state → a decision per board and one transaction per host.

Everything that decides is here, and nothing here does I/O: a plan can be tested, printed and thrown away.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.schema import (
    HOST_CODE,
    UNFINISHED,
    BoardFacts,
    BoardTransaction,
    Entry,
    Firmware,
    Hold,
    HostCode,
    Image,
    Past,
    ServiceFacts,
    Snapshot,
    Transaction,
    TransactionFacts,
)
from fleetflash.boards import KLIPPER_RESTART_SECONDS, PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.artifact import Artifact, ArtifactFile, KlipperFacts
from fleetflash.firmware.chips import Chip, chip, mcu_fits
from fleetflash.firmware.errors import FirmwareError
from fleetflash.hold import remark, why_held
from fleetflash.host_code import MOVE_SECONDS, Verdict, WantedCode, judge
from fleetflash.rollback import Goal, Rollback, find_goal

#: Free space that must be left on the host after its images are uploaded, in bytes.
DISK_RESERVE = 64 * 1024 * 1024
#: What one round trip costs beside the port (USB serial adapters poll every millisecond), in seconds.
LOCAL_ROUND_TRIP = 0.001


#: Where ESP-IDF's default has a partition table, and what the flash of such a chip erases at once, in bytes.
_PARTITION_TABLE, _SECTOR = 0x8000, 4096


class Action(StrEnum):
    FLASH = "flash"
    NONE = "none"
    REFUSE = "refuse"
    DEFER = "defer"
    HOLD = "hold"
    WAITING = "waiting"
    BACK_UP = "back up"
    UNREADABLE = "unreadable"
    OFFLINE = "offline"


class Printer(StrEnum):
    """What a printer is doing, as far as anyone can tell."""

    IDLE = "idle"
    PRINTING = "printing"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class BoardPlan:
    """What is to be done with one board, and why.

    ``backup``: ``read-back`` when the old firmware can be read, ``known-good only`` when it can't and an image of it is
    registered, ``none`` when neither is so. ``uid`` and ``place`` (a by-path name): by what the board is known.
    ``code``: this is no board but Klipper's own code, and ``device`` its checkout. ``image``: ``wanted`` is known from
    the host alone, as this. ``reading``: bytes that may be read back from it.
    """

    name: str
    action: Action
    reason: str = ""
    board: Board | None = None
    chip: Chip | None = None
    device: str = ""
    running: Firmware = Firmware(source="none")
    wanted: Artifact | None = None
    way_back: Artifact | None = None
    way_back_kind: str = ""
    backup: str = ""
    uid: str = ""
    placement: str = "host"
    place: str = ""
    seconds: float | None = None
    code: WantedCode | None = None
    image: Image | None = None
    reading: int = 0
    contract: Contract | None = None


@dataclass(frozen=True)
class HostPlan:
    """All decisions for one host. ``transaction`` is ``None`` when nothing is to be written.

    ``holds``: what a rollback leaves on the host. ``lifts``: boards whose hold the inventory has caught up with.
    """

    host: str
    boards: tuple[BoardPlan, ...]
    transaction: Transaction | None = None
    downtime: float | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unreported: TransactionFacts | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    lifts: tuple[str, ...] = ()

    def actions(self, *actions: Action) -> list[BoardPlan]:
        return [board for board in self.boards if board.action in actions]


@dataclass(frozen=True)
class Catalogue:
    """The artifacts that the controller has: ``resolve`` finds a pinned one or raises ``FirmwareError``.

    ``contracts``: board name → what its boot log must hold, or why that can't be read.
    """

    artifacts: Sequence[Artifact]
    resolve: Callable[[str, object, str], Artifact]
    contracts: Mapping[str, Contract | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """Who plans: the transaction's id, and the controller's name for the host's record.

    ``esptool``: why the controller can't run esptool; empty when it can. ``now``: seconds since 1970.
    """

    transaction: str
    controller: str
    esptool: str = ""
    now: float = 0.0


def offline(host: str, reason: str) -> HostPlan:
    """The plan for a host that can't be asked."""
    return HostPlan(host, (BoardPlan("-", Action.OFFLINE, reason),))


def unusable(host: str, reason: str) -> HostPlan:
    """The plan for a host whose own data can't be read."""
    return HostPlan(host, (BoardPlan("-", Action.REFUSE, reason),))


def hold_back(plan: HostPlan, reason: str) -> HostPlan:
    """Return the plan with everything that would be flashed or read deferred to a later run."""
    held = plan.actions(Action.FLASH, Action.BACK_UP)
    boards = tuple(
        dataclasses.replace(board, action=Action.DEFER, reason=reason) if board in held else board
        for board in plan.boards
    )
    return dataclasses.replace(plan, boards=boards, transaction=None, downtime=None, artifacts={}, holds={}, lifts=())


def plan_host(
    desired: KlipperHost,
    observed: Snapshot,
    catalogue: Catalogue,
    identity: Identity,
    round_trip: float = 0.02,
    code: WantedCode | None = None,
    rollback: Rollback | None = None,
    lifts: bool = True,
) -> HostPlan:
    """Decide for every board of a host. ``round_trip``: seconds between controller and host, for estimates.

    ``code``: what Klipper's own code shall be, where it moves with the boards. ``rollback``: ``desired`` is where that
    leads (``rollback.aimed``). ``lifts``: the pins are the inventory's own, so a hold at them is at its end.
    """
    plans = [_plan_code(code, desired, observed, rollback)] if code else []
    plans += [BoardPlan(name, Action.REFUSE, reason) for name, reason in desired.errors]
    shared = boards_on_one_device(desired.boards, observed)
    for board in desired.boards:
        plans.append(_plan_board(board, desired, observed, catalogue, identity, shared, round_trip, rollback))
    if rollback is not None:
        plans = _all_or_none(plans)
    plans = _apply_policy(desired, apply_host(plans, observed))
    if rollback is None:
        whole = _with_transaction(desired, observed, plans, identity, {})
        return dataclasses.replace(whole, lifts=_lifts(plans, observed)) if lifts else whole
    return _with_transaction(desired, observed, plans, identity, _holds(plans, observed, rollback, identity))


def board_goals(rollback: Rollback, desired: KlipperHost, observed: Snapshot, catalogue: Catalogue) -> list[Goal]:
    """Return what a host's boards go back to; those of which that can't be said are left out."""
    goals = []
    for board in desired.boards:
        facts, _ = look_at(board, observed)
        lineage, hold, known = _lineage(board, observed), observed.holds.get(board.name), catalogue.artifacts
        try:
            goals.append(find_goal(rollback, board, chip(board.chip), facts, lineage, hold, known, catalogue.resolve))
        except FirmwareError:
            continue
    return goals


def printer_state(service: ServiceFacts) -> Printer:
    """The one table of what a printer is doing. Whatever isn't certainly idle must not be stopped."""
    if service.active in ("inactive", "failed", "none"):
        return Printer.STOPPED
    if service.active != "active":
        return Printer.UNKNOWN
    if service.klippy in ("error", "shutdown", "startup"):
        # Without its boards klippy can't print; it stays in startup for as long as one of them doesn't answer.
        return Printer.ERROR
    if service.klippy != "ready":
        return Printer.UNKNOWN
    if service.print_state == "printing":
        return Printer.PRINTING
    if service.print_state == "paused" or service.paused:
        return Printer.PAUSED
    if service.print_state in ("standby", "complete", "cancelled", "error"):
        return Printer.IDLE
    return Printer.UNKNOWN


# Klipper's own code


def _plan_code(
    code: WantedCode, desired: KlipperHost, observed: Snapshot, rollback: Rollback | None = None
) -> BoardPlan:
    verdict, reason = judge(code, observed.checkout)
    action = {Verdict.CURRENT: Action.NONE, Verdict.MOVE: Action.FLASH, Verdict.REFUSE: Action.REFUSE}[verdict]
    hold = observed.holds.get(HOST_CODE)
    if action is Action.NONE:
        reason = remark(hold, code.commit)
    elif action is Action.FLASH and rollback is None:
        held = why_held(hold, code.commit, code.version, desired.name, HOST_CODE)
        action, reason = (Action.HOLD, held) if held else (action, reason)
    if attention := observed.needs_attention.get(HOST_CODE):
        action = Action.REFUSE
        reason = (
            f"needs attention since an earlier run: {attention}. Put it right, then: "
            f"fleetflash board clear INVENTORY {desired.name} '{HOST_CODE}'"
        )
    found = observed.checkout
    return BoardPlan(
        HOST_CODE,
        action,
        reason,
        device=found.path if found else "",
        running=Firmware("checkout", found.version if found else ""),
        seconds=MOVE_SECONDS,
        code=code,
    )


def _host_code(plans: Sequence[BoardPlan], observed: Snapshot) -> HostCode | None:
    """Return what the transaction has to move, without the commits that the host lacks."""
    found = observed.checkout
    moved = [plan.code for plan in plans if plan.code]
    if not moved or found is None:
        return None
    return HostCode(found.path, found.user, found.python, found.commit, moved[0].commit)


# One board


def _plan_board(
    board: Board,
    desired: KlipperHost,
    observed: Snapshot,
    catalogue: Catalogue,
    identity: Identity,
    shared: dict[str, str],
    round_trip: float,
    rollback: Rollback | None,
) -> BoardPlan:
    facts, plan = look_at(board, observed)
    lineage, hold = _lineage(board, observed), observed.holds.get(board.name)

    def refuse(reason: str) -> BoardPlan:
        return dataclasses.replace(plan, reason=reason)

    if rollback is not None and rollback.version(board) is None:
        left = f"no part of this rollback, which names no version for {board.firmware}"
        return dataclasses.replace(plan, action=Action.NONE, reason=left)
    try:
        target = chip(board.chip)
        if rollback is None:
            goal = Goal(catalogue.resolve(board.firmware, board.firmware_version, target.name))
        else:
            known = catalogue.artifacts
            goal = find_goal(rollback, board, target, facts, lineage, hold, known, catalogue.resolve)
    except FirmwareError as error:
        return refuse(str(error))
    wanted = goal.artifact
    plan = dataclasses.replace(plan, chip=target, wanted=wanted, image=goal.image)
    problem = board_problem(board, desired, target, facts, observed, shared) or _shape(wanted, board)
    if problem:
        return refuse(problem)
    if is_current(facts, wanted):
        assumed = "" if facts.firmware.version else f"assumed from the ledger: {facts.firmware.error}"
        reasons = filter(None, [assumed, remark(hold, wanted.image_sha256)])
        return dataclasses.replace(plan, action=Action.NONE, reason="; ".join(reasons))
    held = why_held(hold, wanted.image_sha256, wanted.version, desired.name, board.name)
    if held and rollback is None:
        return dataclasses.replace(plan, action=Action.HOLD, reason=held)
    contract = catalogue.contracts.get(board.name)
    if isinstance(contract, str):
        return refuse(contract)
    plan = dataclasses.replace(plan, contract=contract)
    way_back, kind = find_way_back(facts, target, board, catalogue.artifacts)
    if way_back is not None and not _undoes(way_back, wanted) and _can_read_former(board, facts):
        way_back, kind = None, ""
    # A chip that is said to be protected can't be read.
    backup = PROGRAMMERS[board.programmer].backup(protected=board.unprotect, known_good=way_back is not None)
    reads = way_back is None and backup == "read-back" and not board.accept_no_way_back
    plan = dataclasses.replace(plan, way_back=way_back, way_back_kind="read-back" if reads else kind, backup=backup)
    if way_back is None and not reads and not board.accept_no_way_back:
        return refuse(
            f"no way back: {_reading(board, target)}no known-good image is registered for what it runs "
            f"({facts.firmware.version or 'unknown'}); register it (fleetflash artifact add IMAGE --chip "
            f"{target.name} --name {board.firmware} --label factory) or set accept_no_way_back = True for this board"
        )
    placement, problem = choose_placement(board, observed, identity)
    if problem:
        return refuse(problem)
    plan = dataclasses.replace(plan, placement=placement)
    pace = PROGRAMMERS[board.programmer].pace
    trip = LOCAL_ROUND_TRIP + round_trip if placement == "controller" else LOCAL_ROUND_TRIP
    seconds = pace.seconds(wanted.size, trip)
    if reads:
        room = wanted.esp.flash_bytes if wanted.esp else target.room(board.flash_offset)
        seconds += pace.reading(room, LOCAL_ROUND_TRIP)
        plan = dataclasses.replace(plan, reading=room)
    if contract is not None:
        seconds += contract.settle
    plan = dataclasses.replace(plan, seconds=round(seconds, 1))
    if board.entry == "button" and not desired.attended:
        return dataclasses.replace(
            plan,
            action=Action.WAITING,
            reason="its bootloader needs a person at the button; run with --data attended=true when somebody is there",
        )
    return dataclasses.replace(plan, action=Action.FLASH, reason="; ".join(_remarks(board, facts, plan.uid)))


def look_at(board: Board, observed: Snapshot) -> tuple[BoardFacts, BoardPlan]:
    """Return what is known of a board, and the beginning of a plan for it."""
    facts = observed.boards[board.name]
    if _is_replaced(board, facts):
        # What is known of the former one says nothing of this.
        facts = dataclasses.replace(facts, ledger=None)
    uid = board.uid or (facts.ledger.uid if facts.ledger else "")
    place = facts.ledger.by_path if facts.ledger else ""
    return facts, BoardPlan(
        board.name, Action.REFUSE, "", board, device=facts.device, running=facts.firmware, uid=uid, place=place
    )


def _lineage(board: Board, observed: Snapshot) -> list[Past]:
    return [] if _is_replaced(board, observed.boards[board.name]) else observed.lineages.get(board.name, [])


def _is_replaced(board: Board, facts: BoardFacts) -> bool:
    return bool(board.uid and facts.ledger and facts.ledger.uid not in ("", board.uid))


def board_problem(
    board: Board, desired: KlipperHost, target: Chip, facts: BoardFacts, observed: Snapshot, shared: dict[str, str]
) -> str:
    """Say why a board must not be touched: it is not, or may not be, the one that the inventory means."""
    if not target.bootloader_ids(board.programmer):
        return f"{board.programmer} can't write {target.name}; correct the board's chip or programmer"
    if attention := observed.needs_attention.get(board.name):
        return (
            f"needs attention since an earlier run: {attention}. Put it right, then: "
            f"fleetflash board clear INVENTORY {desired.name} {board.name}"
        )
    problem = _port_problem(board, facts, observed, shared) or _identity_problem(board, facts, observed)
    return problem or _chip_problem(board, target, facts)


def _remarks(board: Board, facts: BoardFacts, uid: str) -> list[str]:
    """Say what a person should know of a board that will be written."""
    remarks = []
    if facts.moved:
        remarks.append(
            f"port {board.port} is not there, but the board is: as {facts.device}, as when it waits in its bootloader"
        )
    if board.unprotect and uid and not PROGRAMMERS[board.programmer].uid_when_protected:
        remarks.append(
            f"a protected chip doesn't tell its unique id, so whether it is {uid} is only seen after the protection "
            "was lifted, which erases it"
        )
    return remarks


def choose_placement(board: Board, observed: Snapshot, identity: Identity) -> tuple[str, str]:
    """Return where a board's protocol runs, and why it can't. A tool that the host lacks is the controller's to run."""
    if not PROGRAMMERS[board.programmer].tool:
        return board.placement or "host", ""
    if board.placement == "host" or (board.placement is None and not observed.esptool):
        return "host", observed.esptool
    return "controller", identity.esptool


def is_current(facts: BoardFacts, wanted: Artifact) -> bool:
    """Whether running version, constants and the ledger's image all say that the board has ``wanted`` already."""
    written = facts.ledger.image_sha256 if facts.ledger else ""
    if facts.firmware.source == "unasked" or (wanted.klipper is None and not facts.firmware.version):
        # Nobody could ask, or a vendor's firmware says nothing: the ledger must do.
        return written == wanted.image_sha256
    if wanted.klipper is None:
        return False
    return runs(facts.firmware, wanted.klipper) and written in ("", wanted.image_sha256)


def runs(firmware: Firmware, image: KlipperFacts) -> bool:
    """Whether a board's own account of its firmware is that of an image. What klippy doesn't tell isn't compared."""
    if not firmware.version or firmware.version != image.version:
        return False
    if firmware.build_versions and firmware.build_versions != image.build_versions:
        return False
    return all(firmware.constants.get(name, value) == value for name, value in image.constants.items())


def find_way_back(
    facts: BoardFacts, target: Chip, board: Board, artifacts: Iterable[Artifact]
) -> tuple[Artifact | None, str]:
    """Return the best known-good image and what makes it good.

    In this order: the image that the board runs (by version, build and constants), the one that a transaction committed
    on this board, a registered factory image. Only images for the place where the board's application begins count.
    """
    fitting = [artifact for artifact in artifacts if artifact.chip == target.name and not _shape(artifact, board)]
    ledger = facts.ledger.image_sha256 if facts.ledger else ""
    running = [a for a in fitting if a.klipper and runs(facts.firmware, a.klipper)]
    running.sort(key=lambda a: (a.image_sha256 != ledger, a.id))
    committed = [a for a in fitting if facts.ledger and a.id == facts.ledger.artifact]
    factory = [a for a in fitting if "factory" in a.labels]
    # Several factory images for one chip are a guess, unless one carries the firmware's own name.
    named = [a for a in factory if a.name == board.firmware]
    # A chip of many products is read back rather than given the firmware of another one.
    factory = named or (factory if len(factory) == 1 and not PROGRAMMERS[board.programmer].parts else [])
    for found, kind in ((running, "running"), (committed, "committed"), (factory, "factory")):
        if found:
            return found[0], kind
    return None, ""


def _undoes(way_back: Artifact, wanted: Artifact) -> bool:
    """Whether writing ``way_back`` brings all of a flash back that ``wanted`` overwrites.

    The parts of an ESP image lie between what the firmware keeps for itself. With the same partition table both write
    to the same partitions; with another one, an application may lie where the former firmware had its settings.
    """
    if wanted.esp is None or way_back.esp is None:
        return True
    tables = [{f.sha256 for f in image.files if f.offset == _PARTITION_TABLE} for image in (wanted, way_back)]
    if tables[0] and tables[0] == tables[1]:
        return True
    covered = {sector for file in way_back.files for sector in _sectors(file)}
    return all(sector in covered for file in wanted.files for sector in _sectors(file))


def _sectors(file: ArtifactFile) -> range:
    return range(file.offset // _SECTOR, -(-(file.offset + file.size) // _SECTOR))


def _can_read_former(board: Board, facts: BoardFacts) -> bool:
    """Whether the board holds its former firmware whole, and can be read."""
    if facts.ledger and facts.ledger.image_sha256 == UNFINISHED:
        return False
    return PROGRAMMERS[board.programmer].read_back and not board.unprotect and not board.accept_no_way_back


def _port_problem(board: Board, facts: BoardFacts, observed: Snapshot, shared: dict[str, str]) -> str:
    if not facts.candidates and PROGRAMMERS[board.programmer].connection != "serial":
        return f"port {board.port}: {facts.firmware.error}"
    if not facts.candidates:
        there = ", ".join(link for port in observed.ports for link in port.by_path or [port.device]) or "no serial port"
        return f"port {board.port} is not there; the host has {there}"
    if len(facts.candidates) > 1:
        paths = " and ".join(_describe(device, observed) for device in facts.candidates)
        return f"port {board.port} is ambiguous: {paths} answer to it; use the by-path name"
    if facts.device in shared and shared[facts.device] != board.name:
        return f"port {board.port} is {facts.device}, which board {shared[facts.device]} already claims"
    if facts.klippy_device and facts.klippy_device != facts.device:
        return (
            f"klippy's {board.klippy_mcu} is on {facts.klippy_device}, but port {board.port} is {facts.device}; "
            "correct klippy_mcu or port in the inventory"
        )
    for port in observed.ports:
        if port.device != facts.device:
            continue
        for holder in port.holders:
            if holder.pid != observed.service.main_pid:
                return f"{port.device} is held by process {holder.pid} ({holder.command}); end it, then run again"
    return ""


def _identity_problem(board: Board, facts: BoardFacts, observed: Snapshot) -> str:
    """Say what contradicts that this is the board which was met before, as far as nobody has to open its port."""
    ledger = facts.ledger
    expected = board.uid or (ledger.uid if ledger else "")
    if expected and facts.uid and facts.uid != expected and PROGRAMMERS[board.programmer].moves:
        return (
            f"port {board.port} is the board with unique id {facts.uid}, expected {expected}; correct the port, or, if "
            f"the board was replaced, set uid = {facts.uid!r} for it in the inventory"
        )
    if PROGRAMMERS[board.programmer].connection != "serial":
        return ""  # its port names the place, or the board itself
    places = [link for port in observed.ports if port.device == facts.device for link in port.by_path]
    met = ledger.by_path if ledger else ""
    if expected or not met or not places or met in places or "/by-path/" in board.port:
        return ""
    return (
        f"port {board.port} is at {places[0]}, but the board was met at {met}, and no unique id is known that could "
        f"tell whether it is the same; if it is, or was replaced, name its port {places[0]} in the inventory"
    )


def _chip_problem(board: Board, target: Chip, facts: BoardFacts) -> str:
    mcu = facts.firmware.constants.get("MCU")
    if mcu and not mcu_fits(str(mcu), target):
        return (
            f"the board on {facts.device} runs firmware for {mcu}, but the inventory says {target.name}; "
            "correct the board's chip or port"
        )
    return ""


def _shape(artifact: Artifact, board: Board) -> str:
    """A bootloader writes one image, from where the board's application begins; that of an ESP chip a whole layout."""
    if PROGRAMMERS[board.programmer].parts:
        return "" if artifact.esp else f"{artifact} is no image for {board.programmer}; register it for this chip"
    if len(artifact.files) != 1:
        return f"{artifact} has several files; {board.programmer} writes one image"
    offset = artifact.files[0].offset
    if offset != board.flash_offset:
        return (
            f"{artifact} belongs at offset {offset:#x} in the flash, but the board's application begins at "
            f"{board.flash_offset:#x}; correct flash_offset, or give an image that was built for it"
        )
    return ""


def _reading(board: Board, target: Chip) -> str:
    if PROGRAMMERS[board.programmer].read_back:
        return ""
    return f"{board.programmer} can't read {target.name} back and "


def boards_on_one_device(boards: Iterable[Board], observed: Snapshot) -> dict[str, str]:
    """Return device → the first board that claims it."""
    claimed: dict[str, str] = {}
    for board in boards:
        device = observed.boards[board.name].device
        if device:
            claimed.setdefault(device, board.name)
    return claimed


def _describe(device: str, observed: Snapshot) -> str:
    paths = [link for port in observed.ports if port.device == device for link in port.by_path]
    return f"{device} ({paths[0]})" if paths else device


# The host around the boards


def apply_host(plans: list[BoardPlan], observed: Snapshot) -> list[BoardPlan]:
    """Turn what would be done into refusals or deferrals where the host does not allow it."""
    wanting = [plan for plan in plans if plan.action in (Action.FLASH, Action.BACK_UP, Action.WAITING)]
    if not wanting:
        return plans
    action, reason = Action.REFUSE, _host_problem(wanting, observed)
    if not reason:
        action, reason = _printer_problem(observed.service)
    if not reason:
        return plans
    return [dataclasses.replace(plan, action=action, reason=reason) if plan in wanting else plan for plan in plans]


def _host_problem(wanting: Sequence[BoardPlan], observed: Snapshot) -> str:
    if observed.systemd:
        return observed.systemd
    if observed.sudo:
        return observed.sudo
    transaction = observed.transaction
    if transaction and transaction.running:
        return (
            f"transaction {transaction.id or 'unknown'}, started by {transaction.controller or 'unknown'}, is running; "
            "run again when it is over"
        )
    needed = DISK_RESERVE + sum(plan.wanted.size for plan in wanting if plan.wanted)
    needed += sum(plan.reading for plan in wanting)
    if observed.disk_free < needed:
        return f"only {observed.disk_free >> 20} MiB free under /var/lib, {needed >> 20} MiB needed; make room"
    return ""


def _printer_problem(service: ServiceFacts) -> tuple[Action, str]:
    state = printer_state(service)
    if state in (Printer.PRINTING, Printer.PAUSED):
        return Action.DEFER, f"the printer is {state}; run again when it is idle"
    if state is Printer.UNKNOWN:
        detail = service.error or f"{service.unit} is {service.active}, klippy says {service.klippy or 'nothing'}"
        return (
            Action.REFUSE,
            f"can't tell whether the printer is printing ({detail}); bring Klipper to ready or stop it",
        )
    return Action.FLASH, ""


def _apply_policy(desired: KlipperHost, plans: list[BoardPlan]) -> list[BoardPlan]:
    """With policy ``exact`` all boards move or none does."""
    held_back = [plan for plan in plans if plan.action in (Action.REFUSE, Action.WAITING, Action.HOLD)]
    if desired.policy != "exact" or not held_back:
        return plans
    first = held_back[0]
    what = "the host code can't be moved" if first.code else f"its neighbour {first.name} can't be flashed"
    if first.action is Action.HOLD:
        what = f"{'the host code' if first.code else f'its neighbour {first.name}'} is held"
    reason = f"policy exact: {what}"
    return [
        dataclasses.replace(plan, action=first.action, reason=reason) if plan.action is Action.FLASH else plan
        for plan in plans
    ]


def _all_or_none(plans: list[BoardPlan]) -> list[BoardPlan]:
    """An image that is missing for one board of a host keeps all of them from being rolled back."""
    missing = [plan for plan in plans if plan.action is Action.REFUSE and plan.board and plan.wanted is None]
    if not missing:
        return plans
    reason = f"its neighbour {missing[0].name} has no image to go back to"
    return [
        dataclasses.replace(plan, action=Action.REFUSE, reason=reason)
        if plan.action in (Action.FLASH, Action.WAITING)
        else plan
        for plan in plans
    ]


# Holds


def _lifts(plans: Sequence[BoardPlan], observed: Snapshot) -> tuple[str, ...]:
    """Return the boards whose hold is at what the inventory pins."""
    kept = [plan for plan in plans if plan.action in (Action.NONE, Action.FLASH) and plan.name in observed.holds]
    return tuple(plan.name for plan in kept if observed.holds[plan.name].image_sha256 == _sha256(plan))


def _holds(plans: Sequence[BoardPlan], observed: Snapshot, rollback: Rollback, identity: Identity) -> dict[str, Hold]:
    """Return what a rollback leaves behind for the boards that it brings back, or finds where they shall be."""
    holds = {}
    for plan in plans:
        sha256, found = _sha256(plan), observed.holds.get(plan.name)
        if plan.action not in (Action.NONE, Action.FLASH) or not sha256:
            continue
        if plan.action is Action.NONE and found and (found.image_sha256, found.target) == (sha256, rollback.to):
            continue
        version = plan.wanted.version if plan.wanted else plan.code.version if plan.code else ""
        holds[plan.name] = Hold(sha256, version, rollback.to, identity.transaction, identity.controller)
    return holds


def _sha256(plan: BoardPlan) -> str:
    """Return the hash of what a board, or the host code, shall be."""
    return plan.wanted.image_sha256 if plan.wanted else plan.code.commit if plan.code else ""


# The transaction


def _with_transaction(
    desired: KlipperHost,
    observed: Snapshot,
    plans: Sequence[BoardPlan],
    identity: Identity,
    holds: dict[str, Hold],
) -> HostPlan:
    flashes = [plan for plan in plans if plan.action is Action.FLASH]
    unreported, notes = unheard(observed)
    if not flashes:
        return HostPlan(desired.name, tuple(plans), notes=notes, unreported=unreported, holds=holds)
    service = observed.service
    was_active = printer_state(service) is not Printer.STOPPED
    writing = sum(plan.seconds or 0.0 for plan in flashes)
    by_hand = sum(plan.board.hands_seconds for plan in flashes if plan.board and plan.board.entry == "button")
    by_path = {port.device: port.by_path[0] for port in observed.ports if port.by_path}
    transaction = Transaction(
        id=identity.transaction,
        controller=identity.controller,
        boards=[_written(plan, by_path.get(plan.device, "")) for plan in flashes if plan.code is None],
        service=service.unit,
        socket=service.socket,
        was_active=was_active,
        was_ready=service.klippy == "ready",
        policy=desired.policy,
        restore_seconds=round(sum(map(_restoring, flashes)) + by_hand + KLIPPER_RESTART_SECONDS, 1),
        host_code=_host_code(flashes, observed),
        holds=holds,
        started_at=identity.now,
        retention=desired.retention,
        checks=list(desired.checks),
        checks_seconds=desired.checks_seconds,
    )
    artifacts = {}
    for plan in flashes:
        for artifact in (plan.wanted, plan.way_back):
            if artifact is not None:
                artifacts[artifact.image_sha256] = artifact
    return HostPlan(
        host=desired.name,
        boards=tuple(plans),
        transaction=transaction,
        downtime=round(writing + KLIPPER_RESTART_SECONDS, 1) if was_active else None,
        artifacts=artifacts,
        notes=notes,
        unreported=unreported,
        holds=holds,
    )


def _restoring(plan: BoardPlan) -> float:
    """Return what taking a board back may take: its way back may be larger than what was written."""
    writing = plan.seconds or 0.0
    if plan.board is None or plan.way_back is None:
        return writing
    pace = PROGRAMMERS[plan.board.programmer].pace
    return max(writing, round(pace.seconds(plan.way_back.size, LOCAL_ROUND_TRIP), 1))


def unheard(observed: Snapshot) -> tuple[TransactionFacts | None, tuple[str, ...]]:
    """Return the newest transaction if no controller has followed it to its end, and what to say of it."""
    last = observed.transaction
    found = last if last and last.id and (last.running or not last.reported) else None
    return found, (_story(found),) if found else ()


def _story(transaction: TransactionFacts) -> str:
    """Say what is known of a transaction that no controller has followed to its end."""
    fate = "is running" if transaction.running else f"ended: {transaction.outcome}"
    if not transaction.running and not transaction.outcome:
        fate = "was interrupted; the next run brings it to rest first"
    return f"transaction {transaction.id}, started by {transaction.controller or 'unknown'}, {fate}"


def _written(plan: BoardPlan, by_path: str) -> BoardTransaction:
    if plan.wanted is None:
        raise AssertionError("a board without an image is never planned to be flashed")
    return board_transaction(plan, by_path, plan.image or _image(plan.wanted))


def board_transaction(plan: BoardPlan, by_path: str, wanted: Image) -> BoardTransaction:
    """Return a board's part of a transaction after which it shall run ``wanted``."""
    board, target = plan.board, plan.chip
    if board is None or target is None:
        raise AssertionError("a board without a chip is never planned to be touched")
    return BoardTransaction(
        name=board.name,
        port=board.port,
        device=plan.device,
        chip=target.name,
        chip_ids=list(target.bootloader_ids(board.programmer)),
        flash_size=target.room(board.flash_offset),
        programmer=board.programmer,
        entry=Entry(board.entry, board.wiring, board.gesture, board.hands_seconds),
        expected=plan.running,
        wanted=wanted,
        way_back=_image(plan.way_back) if plan.way_back else None,
        klippy_mcu=board.klippy_mcu,
        uid=plan.uid,
        baud=board.baud,
        placement=plan.placement,
        tool=PROGRAMMERS[board.programmer].tool,
        unprotect=board.unprotect,
        flash_base=target.flash_bases[0],
        flash_offset=board.flash_offset,
        by_path=by_path,
        read_back=plan.way_back_kind == "read-back",
        options=dict(board.options),
        backup_command=board.backup_words,
        backup_seconds=board.backup_seconds,
        contract=plan.contract,
        equipment=dict(board.equipment),
        power=board.power,
        checks=list(board.checks),
    )


def _image(artifact: Artifact) -> Image:
    facts, esp = artifact.klipper, artifact.esp
    return Image(
        artifact=artifact.id,
        sha256=artifact.image_sha256,
        size=artifact.size,
        version=facts.version if facts else artifact.version,
        build_versions=facts.build_versions if facts else "",
        constants=dict(facts.constants) if facts else {"elf_sha256": esp.elf_sha256} if esp else {},
        klipper=facts is not None,
        esp=esp is not None,
    )
