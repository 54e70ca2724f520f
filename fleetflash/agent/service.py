"""The Klipper service of a transaction: stopped under the guard, started again if it ran."""

from typing import Any, Callable, Optional

from fleetflash.agent import guard, klippy, systemd
from fleetflash.agent.schema import Transaction


class KlipperService:
    """Nothing is stopped or started on a host that has none. ``log(step, **details)`` writes to the journal."""

    def __init__(self, transaction: Transaction, log: Callable[..., Any]):
        self.transaction = transaction
        self.log = log
        #: At boot the settle unit is ordered before Klipper: waiting for Klipper there would wait for ourselves.
        self.waits_for_start = True

    def stop(self) -> None:
        """Return when nothing of Klipper runs any more and nothing can start it; raises ``SystemdError``."""
        if not self.transaction.service:
            return
        guard.hold()
        if systemd.is_active(self.transaction.service):
            guard.mark_stopped()
            self.log("stopping")
            systemd.stop(self.transaction.service)
            self.log("stopped")
        elif not systemd.is_gone(self.transaction.service):
            systemd.stop(self.transaction.service)  # somebody else's stop, which is not over yet

    def start(self) -> str:
        """Let Klipper run again if it did; return why systemd could not start it, or an empty string."""
        guard.release()
        if not self.transaction.was_active:
            return ""
        self.log("starting")
        try:
            systemd.start(self.transaction.service, wait=self.waits_for_start)
        except systemd.SystemdError as error:
            # The unit's own failure, or a host that shuts down; what comes after it must still be done.
            self.log("start-failed", error=str(error))
            return str(error)
        return ""

    def status(self) -> Optional[klippy.Status]:
        """What klippy says while it runs; ``None`` while it is stopped or silent."""
        if not self.transaction.service or not systemd.is_active(self.transaction.service):
            return None
        try:
            return klippy.status(self.transaction.socket)
        except klippy.KlippyError:
            return None
