"""A backup of a host's boards: which of them can be read, and the one transaction that reads them and writes none."""

import dataclasses

from fleetflash.agent.schema import UNFINISHED, Image, Snapshot, Transaction
from fleetflash.boards import KLIPPER_RESTART_SECONDS, PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.chips import chip
from fleetflash.firmware.errors import FirmwareError
from fleetflash.plan.board_check import board_problem, boards_on_one_device
from fleetflash.plan.hold import kept_for
from fleetflash.plan.host_check import apply_host
from fleetflash.plan.model import Action, BoardPlan, Catalogue, HostPlan, Identity
from fleetflash.plan.observation import look_at
from fleetflash.plan.placement import LOCAL_ROUND_TRIP, choose_placement
from fleetflash.plan.printer import Printer, printer_state
from fleetflash.plan.transaction import board_transaction, unheard
from fleetflash.plan.way_back import find_way_back


def plan_backup(
    desired: KlipperHost, observed: Snapshot, catalogue: Catalogue, identity: Identity, reason: str = ""
) -> HostPlan:
    """Decide for every board of a host whether it is read. ``reason``: for the record."""
    plans = [BoardPlan(name, Action.REFUSE, error) for name, error in desired.errors]
    shared = boards_on_one_device(desired.boards, observed)
    plans += [_plan_board(board, desired, observed, catalogue, identity, shared) for board in desired.boards]
    plans = apply_host(plans, observed)
    reading = [plan for plan in plans if plan.action is Action.BACK_UP]
    unreported, notes = unheard(observed)
    if not reading:
        return HostPlan(desired.name, tuple(plans), notes=notes, unreported=unreported)
    was_active = printer_state(observed.service) is not Printer.STOPPED
    downtime = round(sum(plan.seconds or 0.0 for plan in reading) + KLIPPER_RESTART_SECONDS, 1)
    return HostPlan(
        desired.name,
        tuple(plans),
        _transaction(desired, observed, reading, identity, was_active, reason),
        downtime=downtime if was_active else None,
        notes=notes,
        unreported=unreported,
    )


def _plan_board(
    board: Board,
    desired: KlipperHost,
    observed: Snapshot,
    catalogue: Catalogue,
    identity: Identity,
    shared: dict[str, str],
) -> BoardPlan:
    facts, plan = look_at(board, observed)
    try:
        target = chip(board.chip)
    except FirmwareError as error:
        return dataclasses.replace(plan, reason=str(error))
    way_back, kind = find_way_back(facts, target, board, catalogue.artifacts)
    can = PROGRAMMERS[board.programmer]
    unfinished = facts.ledger is not None and facts.ledger.image_sha256 == UNFINISHED
    backup = can.backup(protected=board.unprotect or unfinished, known_good=way_back is not None)
    plan = dataclasses.replace(plan, chip=target, way_back=way_back, way_back_kind=kind, backup=backup)
    if problem := board_problem(board, desired, target, facts, observed, shared):
        return dataclasses.replace(plan, reason=problem)
    if backup != "read-back":
        why = f"{board.programmer} can't read {target.name} back"
        if can.read_back:
            why = "an earlier write was interrupted, so what it holds now is no backup"
            why = why if unfinished else "its chip is said to be read-protected (unprotect = True)"
        known = f"known good is {way_back.version} ({kind})" if way_back else "no known-good image is registered"
        return dataclasses.replace(plan, action=Action.UNREADABLE, reason=f"{why}; {known}")
    placement, problem = choose_placement(board, observed, identity)
    if problem:
        return dataclasses.replace(plan, reason=problem)
    room = way_back.esp.flash_bytes if way_back and way_back.esp else target.room(board.flash_offset)
    # A backup is compared with a second reading.
    seconds = can.pace.fixed + 2 * can.pace.reading(room, LOCAL_ROUND_TRIP)
    plan = dataclasses.replace(plan, placement=placement, seconds=round(seconds, 1), reading=room)
    if board.entry == "button" and not desired.attended:
        hands = "its bootloader needs a person at the button; run with --data attended=true when somebody is there"
        return dataclasses.replace(plan, action=Action.WAITING, reason=hands)
    return dataclasses.replace(plan, action=Action.BACK_UP)


def _transaction(
    desired: KlipperHost,
    observed: Snapshot,
    reading: list[BoardPlan],
    identity: Identity,
    was_active: bool,
    reason: str,
) -> Transaction:
    by_path = {port.device: port.by_path[0] for port in observed.ports if port.by_path}
    by_hand = sum(plan.board.hands_seconds for plan in reading if plan.board and plan.board.entry == "button")
    return Transaction(
        id=identity.transaction,
        controller=identity.controller,
        boards=[
            # Nothing is written, so no way back is needed.
            dataclasses.replace(
                board_transaction(plan, by_path.get(plan.device, ""), _as_it_is(plan)), way_back=None, read_back=True
            )
            for plan in reading
        ],
        service=observed.service.unit,
        socket=observed.service.socket,
        was_active=was_active,
        was_ready=observed.service.klippy == "ready",
        policy="compatible",
        restore_seconds=round(by_hand + KLIPPER_RESTART_SECONDS, 1),
        backup_only=True,
        reason=reason or "asked for",
        started_at=identity.now,
        retention=kept_for(observed.holds.values(), desired.retention),
    )


def _as_it_is(plan: BoardPlan) -> Image:
    """Return what a board must run after it was read: what it says that it runs now."""
    running = plan.running
    return Image(
        artifact="",
        sha256="",
        size=0,
        version=running.version,
        build_versions=running.build_versions,
        constants=dict(running.constants),
        klipper=bool(running.version) and plan.board is not None and PROGRAMMERS[plan.board.programmer].klipper,
    )
