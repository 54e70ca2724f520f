"""A host: a decision for every board of it and for its code, and the transaction that follows."""

import dataclasses

from fleetflash.agent.schema import Snapshot
from fleetflash.boards import KlipperHost
from fleetflash.firmware.chips import chip
from fleetflash.firmware.errors import FirmwareError
from fleetflash.plan.board import plan_board
from fleetflash.plan.board_check import boards_on_one_device
from fleetflash.plan.erasure import NOTHING, Erasure
from fleetflash.plan.hold import left_behind, lifted
from fleetflash.plan.host_check import apply_host
from fleetflash.plan.host_code import plan_code
from fleetflash.plan.model import Action, BoardPlan, Catalogue, HostPlan, Identity, WantedCode
from fleetflash.plan.observation import lineage_of, look_at
from fleetflash.plan.policy import all_or_none, apply_policy
from fleetflash.plan.rollback import Goal, Rollback, find_goal
from fleetflash.plan.transaction import with_transaction


def plan_host(
    desired: KlipperHost,
    observed: Snapshot,
    catalogue: Catalogue,
    identity: Identity,
    round_trip: float = 0.02,
    code: WantedCode | None = None,
    rollback: Rollback | None = None,
    lifts: bool = True,
    erasure: Erasure = NOTHING,
) -> HostPlan:
    """Decide for every board of a host. ``round_trip``: seconds between controller and host, for estimates.

    ``code``: what Klipper's own code shall be, where it moves with the boards. ``rollback``: ``desired`` is where that
    leads (``rollback.aimed``). ``lifts``: the pins are the inventory's own, so a hold at them is at its end.
    ``erasure``: what this run erases besides.
    """
    plans = [plan_code(code, desired, observed, rollback)] if code else []
    plans += [BoardPlan(name, Action.REFUSE, reason) for name, reason in desired.errors]
    shared = boards_on_one_device(desired.boards, observed)
    for board in desired.boards:
        plans.append(plan_board(board, desired, observed, catalogue, identity, shared, round_trip, rollback, erasure))
    if rollback is not None:
        plans = all_or_none(plans)
    plans = apply_policy(desired, apply_host(plans, observed))
    if rollback is None:
        whole = with_transaction(desired, observed, plans, identity, {})
        return dataclasses.replace(whole, lifts=lifted(plans, observed)) if lifts else whole
    return with_transaction(desired, observed, plans, identity, left_behind(plans, observed, rollback, identity))


def board_goals(rollback: Rollback, desired: KlipperHost, observed: Snapshot, catalogue: Catalogue) -> list[Goal]:
    """Return what a host's boards go back to; those of which that can't be said are left out."""
    goals = []
    for board in desired.boards:
        facts, _ = look_at(board, observed)
        lineage, hold, known = lineage_of(board, observed), observed.holds.get(board.name), catalogue.artifacts
        try:
            goals.append(find_goal(rollback, board, chip(board.chip), facts, lineage, hold, known, catalogue.resolve))
        except FirmwareError:
            continue
    return goals
