"""The host around the boards: whether it allows, now, what would be done with them."""

import dataclasses
from collections.abc import Sequence

from fleetflash.agent.schema import ServiceFacts, Snapshot
from fleetflash.plan.model import Action, BoardPlan
from fleetflash.plan.printer import Printer, printer_state

#: Free space that must be left on the host after its images are uploaded, in bytes.
DISK_RESERVE = 64 * 1024 * 1024


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
