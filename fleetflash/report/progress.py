"""How transactions are told while they run: bars on a terminal, one line a step elsewhere, JSON lines for machines."""

import json
import os
import sys
from typing import Any, Protocol

from pyinfra import logger
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from fleetflash.incident.redaction import of_run
from fleetflash.plan import Action, HostPlan

# pyinfra's own spinner would write into the bars; it looks at this before each operation.
os.environ.setdefault("PYINFRA_PROGRESS", "off")

#: Steps that a person wants to see, and how they read. ``{board}`` is filled in.
STEPS = {
    "guarded": "guard raised: Klipper comes back whatever happens",
    "stopping": "stopping Klipper",
    "checkout": "moving Klipper's own code",
    "entering": "{board}: entering its bootloader",
    "saving": "{board}: its backup_command runs",
    "reading": "{board}: reading what it runs",
    "writing": "{board}: writing",
    "verified": "{board}: verified",
    "booted": "{board}: boot {attempt} of {of}: {said}",
    "failed": "{board}: failed: {error}",
    "restoring": "{board}: going back to what it ran before",
    "restored": "{board}: is back at what it ran before",
    "restore-failed": "{board}: the way back failed: {error}",
    "power-cycling": "{board}: does not come back, is switched off and on again",
    "power-failed": "{board}: could not be switched off and on again: {error}",
    "starting": "starting Klipper",
    "checking": "asking klippy what really runs",
    "checking-objects": "asking klippy for its objects",
    "objects-failed": "klippy's objects are not as they shall be: {error}",
    "settling": "settling what was interrupted",
}
#: Steps that stay on a terminal when the bars are gone.
KEPT = {
    "failed",
    "restoring",
    "restored",
    "restore-failed",
    "settling",
    "power-cycling",
    "power-failed",
    "objects-failed",
}


class Display(Protocol):
    """Where events go. ``host`` is a pyinfra host."""

    def event(self, host: Any, event: dict[str, Any]) -> None: ...


class Lines:
    """One log line a step."""

    def event(self, host: Any, event: dict[str, Any]) -> None:
        step = str(event.get("step"))
        if step == "progress" and event["done"] >= event["total"]:
            say(host, f"{event['board']}: {event['phase']} {event['total'] / 1024:.1f} KiB done")
        elif step in STEPS:
            say(host, STEPS[step].format_map(event))


class LiveBars:
    """One bar a host, with step, rate and time left; gone when the host is done."""

    def __init__(self) -> None:
        columns = (
            TextColumn("    [bold]{task.fields[host]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Bars(*columns, console=Console(stderr=True), transient=True)
        self.tasks: dict[str, TaskID] = {}

    def event(self, host: Any, event: dict[str, Any]) -> None:
        step = str(event.get("step"))
        if step == "outcome":
            self._remove(host.name)
            return
        if step in KEPT:
            say(host, STEPS[step].format_map(event))
        if step != "progress" and step not in STEPS:
            return
        task = self._task(host.name)
        if step == "progress":
            text = f"{event['board']}: {event['phase']}"
            self.bars.update(task, description=text, total=event["total"], completed=event["done"])
        else:
            self.bars.update(task, description=STEPS[step].format_map(event))

    def _task(self, name: str) -> TaskID:
        if not self.tasks:
            self.bars.start()
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task("", total=None, host=name)
        return self.tasks[name]

    def _remove(self, name: str) -> None:
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))
        if not self.tasks:
            self.bars.stop()


class JsonLines:
    """One JSON object a line on standard output: the agent's events, each with its host."""

    def event(self, host: Any, event: dict[str, Any]) -> None:
        print(json.dumps({"host": host.name, **event}, sort_keys=True), flush=True)


_display: Display | None = None


def display(kind: str) -> Display:
    """Return the run's one display. ``kind``: ``auto`` (bars on a terminal), ``lines``, ``bars`` or ``json``."""
    global _display
    if _display is None:
        if kind == "json":
            _display = JsonLines()
        elif kind == "bars" or (kind == "auto" and sys.stderr.isatty()):
            _display = LiveBars()
        else:
            _display = Lines()
    return _display


class Progress:
    """Tells of one host: its plan, its transaction's events and its outcome."""

    def __init__(self, host: Any):
        self.host = host
        self.redactor = of_run(host.state)
        #: What was seen of the transaction, without its progress.
        self.seen: list[dict[str, Any]] = []
        self.display = display(str(host.data.get("progress", "auto")))

    def plan(self, plan: HostPlan) -> None:
        for board in plan.boards:
            if board.action is Action.BACK_UP:
                say(self.host, f"{board.name}: is read, about {board.seconds:.0f} s")
            if board.action is Action.FLASH and board.code is not None:
                say(self.host, f"{board.name}: {board.running.version} → {board.code.version}")
            if board.action is not Action.FLASH or board.wanted is None:
                continue
            back = f"{board.way_back.version} ({board.way_back_kind})" if board.way_back else board.way_back_kind
            erased = "".join(f", erases {region.name}" for region in board.erase)
            say(
                self.host,
                f"{board.name}: {board.running.version or 'unknown'} → {board.wanted.version}{erased}, "
                f"way back {back or 'none, accepted'}, about {board.seconds:.0f} s",
            )
        if plan.unreported is not None:
            earlier = plan.unreported
            say(self.host, f"transaction {earlier.id}, started by {earlier.controller}, is followed first")

    def waiting(self, plan: HostPlan, seconds: float) -> None:
        reasons = {board.reason for board in plan.actions(Action.DEFER)}
        say(self.host, f"{'; '.join(sorted(reasons))}: waiting for it, {seconds / 60:.0f} min at most")

    def event(self, event: dict[str, Any]) -> None:
        event = self.redactor.value(event)
        if event.get("step") != "progress":
            self.seen.append(event)
        if event.get("step") == "hands":
            gesture, seconds = event["gesture"], event["seconds"]
            say(self.host, f"{event['board']}: NOW: {gesture} (within {seconds:.0f} s)", logger.warning)
        self.display.event(self.host, event)

    def outcome(self, what: str, outcome: dict[str, Any]) -> None:
        self.display.event(self.host, {"step": "outcome", "outcome": self.redactor.value(outcome)})
        word = str(outcome.get("outcome", "unknown"))
        detail = f": {outcome['detail']}" if outcome.get("detail") else ""
        down = f", Klipper was down {outcome['downtime']:.1f} s" if outcome.get("downtime") else ""
        say(self.host, f"{what}: {word}{down}{detail}", logger.info if word == "committed" else logger.error)


def say(host: Any, text: str, log: Any = logger.info) -> None:
    """Log a line of a host, as pyinfra does."""
    log(f"{host.print_prefix}{text}")
