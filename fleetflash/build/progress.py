"""What a user hears of a build that runs elsewhere."""

import time
from collections.abc import Callable


class Progress:
    """Tells of a log that grows: its first line, and then how far it is, every few seconds.

    + interval: in seconds
    """

    def __init__(self, tell: Callable[[str], None], interval: float = 3.0) -> None:
        self._tell, self._interval, self._next = tell, interval, 0.0
        self._lines, self._rest = 0, b""

    def __call__(self, said: bytes) -> None:
        *lines, self._rest = (self._rest + said).split(b"\n")
        self._lines += len(lines)
        told = [line for line in lines if line.strip()]
        if told and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            last = "".join(c if c.isprintable() else " " for c in told[-1].decode(errors="replace")).strip()
            self._tell(f"{last:.120} (line {self._lines})")
