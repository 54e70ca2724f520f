"""What keeps a board where a rollback has brought it: what it forbids, what a rollback leaves, and what ends it.

A hold ends when somebody clears it, or when the inventory pins what it holds: then nothing is left to hold against.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from fleetflash.agent.schema import Hold, Retention, Snapshot
from fleetflash.plan.model import Action, BoardPlan, Identity
from fleetflash.plan.rollback import UNKNOWN, Rollback


def why_held(hold: Hold | None, wanted: str, version: str, host: str, board: str) -> str:
    """Say why a board must not be brought to an image; empty when nothing keeps it.

    + wanted: the sha256 of the image; of the host code, the commit
    + version: its version
    """
    if hold is None or hold.image_sha256 == wanted:
        return ""
    name = f"'{board}'" if " " in board else board
    at = "what it ran before" if hold.version == UNKNOWN else hold.version
    pin = "" if hold.version == UNKNOWN else f"pin {hold.version} in group_data, or "
    return (
        f"held at {at} since a rollback by {hold.controller or 'unknown'}, so it does not go to {version}; {pin}"
        f"let it go: fleetflash hold clear INVENTORY {host} {name}"
    )


def remark(hold: Hold | None, wanted: str) -> str:
    """Say that a board which is where it shall be is held there; empty when it is not."""
    return f"held at {hold.version} since a rollback" if hold is not None and hold.image_sha256 == wanted else ""


def kept_for(holds: Iterable[Hold], retention: Retention) -> Retention:
    """Return a retention that keeps what boards are held at, too: the very image, and the newest of its version."""
    readable = [hold for hold in holds if hold.image_sha256]
    named = {name for hold in readable for name in (hold.version, f"sha256:{hold.image_sha256}") if name}
    return dataclasses.replace(retention, pins=sorted({*retention.pins, *named}))


def lifted(plans: Sequence[BoardPlan], observed: Snapshot) -> tuple[str, ...]:
    """Return the boards whose hold is at what the inventory pins."""
    kept = [plan for plan in plans if plan.action in (Action.NONE, Action.FLASH) and plan.name in observed.holds]
    return tuple(plan.name for plan in kept if observed.holds[plan.name].image_sha256 == _sha256(plan))


def left_behind(
    plans: Sequence[BoardPlan], observed: Snapshot, rollback: Rollback, identity: Identity
) -> dict[str, Hold]:
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
