"""How a host's transaction is told while it runs: one line a step, prefixed with the host."""

from typing import Any

from pyinfra import logger

from fleetflash.plan import Action, HostPlan

#: Steps that a person wants to see, and how they read. ``{board}`` is filled in.
STEPS = {
    "guarded": "guard raised: Klipper comes back whatever happens",
    "stopping": "stopping Klipper",
    "entering": "{board}: entering its bootloader",
    "writing": "{board}: writing",
    "verified": "{board}: verified",
    "failed": "{board}: failed: {error}",
    "restoring": "{board}: going back to the firmware before",
    "restored": "{board}: runs {version} again",
    "restore-failed": "{board}: the way back failed: {error}",
    "starting": "starting Klipper",
    "checking": "asking klippy what really runs",
    "settling": "settling what was interrupted",
}


class Progress:
    """Prints plan lines, steps and the outcome of one host."""

    def __init__(self, host: Any):
        self.host = host

    def plan(self, plan: HostPlan) -> None:
        for board in plan.boards:
            if board.action is not Action.FLASH or board.wanted is None:
                continue
            back = f"{board.way_back.version} ({board.way_back_kind})" if board.way_back else "none, accepted"
            self._say(
                f"{board.name}: {board.running.version or 'unknown'} → {board.wanted.version}, way back {back}, "
                f"about {board.seconds:.0f} s"
            )
        if plan.unreported is not None:
            self._say(f"transaction {plan.unreported.id}, started by {plan.unreported.controller}, is followed first")

    def waiting(self, plan: HostPlan, seconds: float) -> None:
        reasons = {board.reason for board in plan.actions(Action.DEFER)}
        self._say(f"{'; '.join(sorted(reasons))}: waiting for it, {seconds / 60:.0f} min at most")

    def event(self, event: dict[str, Any]) -> None:
        step = str(event.get("step"))
        if step == "hands":
            self._say(f"{event['board']}: NOW: {event['gesture']} (within {event['seconds']:.0f} s)", logger.warning)
        elif step == "progress" and event["done"] >= event["total"]:
            self._say(f"{event['board']}: {event['phase']} {event['total'] / 1024:.1f} KiB done")
        elif step in STEPS:
            self._say(STEPS[step].format_map(event))

    def outcome(self, what: str, outcome: dict[str, Any]) -> None:
        word = str(outcome.get("outcome", "unknown"))
        detail = f": {outcome['detail']}" if outcome.get("detail") else ""
        down = f", Klipper was down {outcome['downtime']:.1f} s" if outcome.get("downtime") else ""
        self._say(f"{what}: {word}{down}{detail}", logger.info if word == "committed" else logger.error)

    def _say(self, text: str, log: Any = logger.info) -> None:
        log(f"{self.host.print_prefix}{text}")
