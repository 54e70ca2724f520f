"""One board: whether it is written, with what, and what brings it back."""

import dataclasses

from fleetflash.agent.schema import BoardFacts, Snapshot
from fleetflash.boards import PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.chips import Chip, chip
from fleetflash.firmware.errors import FirmwareError
from fleetflash.plan.board_check import board_problem
from fleetflash.plan.erasure import KEY, Erasure, ErasureError, find_regions
from fleetflash.plan.hold import remark, why_held
from fleetflash.plan.image import is_current, misfit
from fleetflash.plan.model import Action, BoardPlan, Catalogue, Identity
from fleetflash.plan.observation import lineage_of, look_at
from fleetflash.plan.placement import LOCAL_ROUND_TRIP, choose_placement
from fleetflash.plan.rollback import Goal, Rollback, find_goal
from fleetflash.plan.way_back import can_read_former, find_way_back, undoes


def plan_board(
    board: Board,
    desired: KlipperHost,
    observed: Snapshot,
    catalogue: Catalogue,
    identity: Identity,
    shared: dict[str, str],
    round_trip: float,
    rollback: Rollback | None,
    erasure: Erasure,
) -> BoardPlan:
    """Decide what is to be done with a board.

    + shared: device → the first board that claims it
    + round_trip: between controller and host, in seconds
    + rollback: ``desired`` is where that leads
    """
    facts, plan = look_at(board, observed)
    lineage, hold = lineage_of(board, observed), observed.holds.get(board.name)

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
    problem = board_problem(board, desired, target, facts, observed, shared) or misfit(wanted, board)
    if problem:
        return refuse(problem)
    if names := erasure.of(board.name):
        try:
            erase = find_regions(names, board, wanted, catalogue.partitions(wanted))
        except (ErasureError, FirmwareError) as error:
            return refuse(str(error))
        plan = dataclasses.replace(plan, erase=erase)
    if is_current(facts, wanted) and not plan.erase:
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
    undone = way_back is not None and undoes(way_back, wanted) and not plan.erase
    if not undone and can_read_former(board, facts):
        way_back, kind = None, ""
    if plan.erase and not can_read_former(board, facts) and not board.accept_no_way_back:
        return refuse(
            f"{KEY} needs a backup of what is erased, and an earlier write was interrupted, so what the gateway holds "
            f"is none; run without {KEY} first"
        )
    # A chip that is said to be protected can't be read.
    backup = PROGRAMMERS[board.programmer].backup(protected=board.unprotect, known_good=way_back is not None)
    reads = way_back is None and backup == "read-back" and not board.accept_no_way_back
    plan = dataclasses.replace(plan, way_back=way_back, way_back_kind="read-back" if reads else kind, backup=backup)
    if way_back is None and not reads and not board.accept_no_way_back:
        return refuse(
            f"no way back: {_unread(board, target)}no known-good image is registered for what it runs "
            f"({facts.firmware.version or 'unknown'}); register it (fleetflash artifact add IMAGE --chip "
            f"{target.name} --name {board.firmware} --label factory) or set accept_no_way_back = True for this board"
        )
    placement, problem = choose_placement(board, observed, identity)
    if problem:
        return refuse(problem)
    plan = dataclasses.replace(plan, placement=placement)
    pace = PROGRAMMERS[board.programmer].pace
    trip = LOCAL_ROUND_TRIP + round_trip if placement == "controller" else LOCAL_ROUND_TRIP
    seconds = pace.seconds(wanted.size + sum(region.size for region in plan.erase), trip)
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
    return dataclasses.replace(plan, action=Action.FLASH, reason="; ".join(_remarks(board, facts, plan)))


def _remarks(board: Board, facts: BoardFacts, plan: BoardPlan) -> list[str]:
    """Say what a person should know of a board that will be written."""
    remarks, uid = [], plan.uid
    for region in plan.erase:
        kept = "" if plan.way_back_kind == "read-back" else ", of which NO backup is taken (accept_no_way_back)"
        remarks.append(f"erases {region.name} ({region.size // 1024} KiB at {region.offset:#x}){kept}")
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


def _unread(board: Board, target: Chip) -> str:
    if PROGRAMMERS[board.programmer].read_back:
        return ""
    return f"{board.programmer} can't read {target.name} back and "
