"""When a line of a log came: seconds since the reset that the log begins with."""

from typing import Optional

from fleetflash.agent.acceptance.lines import Line


class LogClock:
    """Received times where they are noted; else the chip's own, which begin anew with every start of the chip.

    ``now`` is ``None`` until a time is known. It never goes back. A line without a time has that of the one before it.
    """

    def __init__(self) -> None:
        self.now: Optional[float] = None
        self._began = 0.0

    def restarted(self) -> None:
        """The chip's own time begins anew."""
        self._began = self.now or 0.0

    def tell(self, line: Line) -> Optional[float]:
        """Return the time of a line."""
        found = line.received
        if found is None and line.stamp is not None:
            found = self._began + line.stamp
        if found is not None:
            self.pass_to(found)
        return self.now

    def pass_to(self, seconds: float) -> None:
        """It is known to be so late at least."""
        if self.now is None or seconds > self.now:
            self.now = seconds
