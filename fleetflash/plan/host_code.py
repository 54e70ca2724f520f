"""Klipper's own code beside its boards, with policy ``exact``: is it what it shall be, and may it be moved?"""

from collections.abc import Sequence
from enum import StrEnum

from fleetflash.agent.schema import HOST_CODE, CheckoutFacts, Firmware, HostCode, Snapshot
from fleetflash.boards import KlipperHost
from fleetflash.plan.hold import remark, why_held
from fleetflash.plan.model import Action, BoardPlan, WantedCode
from fleetflash.plan.rollback import Rollback

#: Moving the checkout, or taking it back, on a Raspberry Pi, in seconds.
MOVE_SECONDS = 10.0
#: Files that are named before the rest is only counted.
NAMED = 3


class Verdict(StrEnum):
    CURRENT = "current"
    MOVE = "move"
    REFUSE = "refuse"


def judge(wanted: WantedCode, found: CheckoutFacts | None) -> tuple[Verdict, str]:
    """Return what is to be done with a host's code, and why. What isn't in a commit of the repository is never left."""
    if wanted.problem:
        return Verdict.REFUSE, wanted.problem
    if found is None:
        return Verdict.REFUSE, "the host has no Klipper whose code could be moved; take klipper_version away"
    if found.error:
        return Verdict.REFUSE, found.error
    if found.dirty:
        files = ", ".join(found.dirty[:NAMED]) + (f" and {len(found.dirty) - NAMED} more" * (len(found.dirty) > NAMED))
        return Verdict.REFUSE, f"{found.path} has uncommitted changes ({files}); commit or stash them, then run again"
    if found.commit != wanted.commit:
        if wanted.foreign:
            return Verdict.REFUSE, (
                f"{found.path} is at {found.version}, which {wanted.repository} does not have; check out a commit of "
                "that repository, or correct klipper_repository"
            )
        return Verdict.MOVE, ""
    if found.running and found.running != found.version:
        return Verdict.MOVE, f"klippy still runs {found.running}"
    return Verdict.CURRENT, ""


def plan_code(
    code: WantedCode, desired: KlipperHost, observed: Snapshot, rollback: Rollback | None = None
) -> BoardPlan:
    """Decide what is to be done with a host's code. ``rollback``: ``code`` is where that leads."""
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


def moved_code(plans: Sequence[BoardPlan], observed: Snapshot) -> HostCode | None:
    """Return what the transaction has to move, without the commits that the host lacks."""
    found = observed.checkout
    moved = [plan.code for plan in plans if plan.code]
    if not moved or found is None:
        return None
    return HostCode(found.path, found.user, found.python, found.commit, moved[0].commit)
