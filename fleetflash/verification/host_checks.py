"""What a host and its boards should be, against what they are. Pure: reads what was found out before."""

from collections.abc import Mapping

from fleetflash.agent.schema import Snapshot
from fleetflash.plan import Action, BoardPlan, HostPlan
from fleetflash.verification.check import Check, Result, compared

#: What a dry run says of a board, and what that means for a farm that should be at rest.
_DRY_RUN = {
    Action.NONE: ("nothing to do", Result.OK),
    Action.FLASH: ("would be flashed", Result.DRIFT),
    Action.DEFER: ("would be deferred", Result.DRIFT),
    Action.WAITING: ("waits for hands", Result.DRIFT),
    Action.HOLD: ("held after a rollback", Result.DRIFT),
    Action.REFUSE: ("would be refused", Result.FAILED),
    Action.OFFLINE: ("offline", Result.FAILED),
}


def check_host(
    plan: HostPlan,
    observed: Snapshot | None,
    moonraker: Mapping[str, str],
    images: Mapping[str, str],
) -> list[Check]:
    """Return every check of a host.

    + observed: ``None`` when it can't be asked; the plan says why
    + moonraker: its version and klippy's state, or ``error``; empty where there is none
    + images: board → what is wrong with the artifact that it is pinned to, in this computer's store
    """
    if observed is None:
        reason = next((board.reason for board in plan.boards), "")
        return [Check(plan.host, "-", "ssh", "reachable", "no answer", Result.FAILED, reason)]
    checks = [Check(plan.host, "-", "ssh", "reachable", "reachable", Result.OK)]
    checks += _host(plan, observed, moonraker)
    for board in plan.boards:
        checks += _board(plan.host, board, images)
    return checks


def _host(plan: HostPlan, observed: Snapshot, moonraker: Mapping[str, str]) -> list[Check]:
    host, service = plan.host, observed.service
    found = [compared(host, "-", "sudo", "granted", "refused" if observed.sudo else "granted", observed.sudo)]
    if service.unit:
        state = service.klippy or service.active
        found.append(
            compared(host, "-", "klippy", "ready", state, service.error or "start Klipper, or look at its log")
        )
    if moonraker:
        state = moonraker.get("klippy", "no answer")
        detail = moonraker.get("error", "") or "Moonraker does not see a klippy that is ready; look at moonraker.log"
        found.append(compared(host, "-", "moonraker", "ready", state, detail))
    if plan.unreported is not None:
        what = plan.unreported.outcome or "unfinished"
        detail = f"transaction {plan.unreported.id} of {plan.unreported.controller} was not followed to its end"
        found.append(Check(host, "-", "transactions", "all ended", what, Result.DRIFT, detail))
    return found


def _board(host: str, plan: BoardPlan, images: Mapping[str, str]) -> list[Check]:
    checks = []
    if plan.board is not None:
        port = plan.board.port
        checks.append(compared(host, plan.name, "port", port, port if plan.device else "absent", plan.reason))
    if plan.wanted is not None:
        problem = images.get(plan.name, "")
        image = f"{plan.wanted.image_sha256[:12]}"
        checks.append(compared(host, plan.name, "image", image, "damaged" if problem else image, problem))
    expected = plan.code.version if plan.code else plan.wanted.version if plan.wanted else ""
    if expected:
        running = plan.running.version or ("assumed" if plan.action is Action.NONE else "unknown")
        if running == "assumed":
            checks.append(Check(host, plan.name, "version", expected, running, Result.OK, plan.reason))
        else:
            checks.append(compared(host, plan.name, "version", expected, running, plan.running.error or plan.reason))
    found, result = _DRY_RUN[plan.action]
    checks.append(Check(host, plan.name, "dry run", "nothing to do", found, result, plan.reason))
    return checks
