"""What one board of a host means for the others: with some policies, none moves without all."""

import dataclasses

from fleetflash.boards import KlipperHost
from fleetflash.plan.model import Action, BoardPlan


def apply_policy(desired: KlipperHost, plans: list[BoardPlan]) -> list[BoardPlan]:
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


def all_or_none(plans: list[BoardPlan]) -> list[BoardPlan]:
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
