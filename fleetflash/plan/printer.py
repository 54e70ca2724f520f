"""What a printer is doing, which decides whether its boards may be touched."""

from enum import StrEnum

from fleetflash.agent.schema import ServiceFacts


class Printer(StrEnum):
    """What a printer is doing, as far as anyone can tell."""

    IDLE = "idle"
    PRINTING = "printing"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"
    UNKNOWN = "unknown"


def printer_state(service: ServiceFacts) -> Printer:
    """The one table of what a printer is doing. Whatever isn't certainly idle must not be stopped."""
    if service.active in ("inactive", "failed", "none"):
        return Printer.STOPPED
    if service.active != "active":
        return Printer.UNKNOWN
    if service.klippy in ("error", "shutdown", "startup"):
        # Without its boards klippy can't print; it stays in startup for as long as one of them doesn't answer.
        return Printer.ERROR
    if service.klippy != "ready":
        return Printer.UNKNOWN
    if service.print_state == "printing":
        return Printer.PRINTING
    if service.print_state == "paused" or service.paused:
        return Printer.PAUSED
    if service.print_state in ("standby", "complete", "cancelled", "error"):
        return Printer.IDLE
    return Printer.UNKNOWN
