"""``monitor.log``: what a chip said from its reset on, each line with the time when its first byte was received.

::

    # fleetflash monitor.log: gateway on /dev/ttyUSB0, attempt 1 of 3
    [    0.000812] ets Jul 29 2019 12:21:46
    [    0.412009] I (398) sd: SD state -> INIT_OK
    # listened for 6.013 s

Times are seconds since the reset was let go. The bytes of a line are the chip's, colours included, but for its end.
"""

import re
from collections import deque
from typing import Deque, List, Optional

HEADER = "# fleetflash monitor.log: "
#: A line of the log: the time of its first byte, then what the chip said.
LINE = re.compile(rb"\[ *(\d+\.\d+)\] ?")
END = re.compile(rb"# listened for (\d+\.\d+) s")

#: How much of the beginning and of the end is kept, in bytes; and of one line.
HEAD_BYTES, TAIL_BYTES, LINE_BYTES = 512 * 1024, 256 * 1024, 4096


class MonitorLog:
    """Collects a log in bounded space: what comes in the middle of a very long one is left out, and that is said."""

    def __init__(self, title: str):
        self._head: List[bytes] = [f"{HEADER}{title}\n".encode()]
        self._tail: Deque[bytes] = deque()
        self._head_size = self._tail_size = self._dropped = 0
        self._line = b""
        self._began: Optional[float] = None

    def hear(self, seconds: float, data: bytes) -> None:
        """Take bytes that were received so long after the reset."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(seconds, piece)
            self._end_line()
        if rest:
            self._add(seconds, rest)

    def content(self, seconds: float) -> bytes:
        """Return the whole file, when so long was listened."""
        if self._began is not None:
            self._end_line()
        gap = [b"# %d bytes are left out here\n" % self._dropped] if self._dropped else []
        return b"".join([*self._head, *gap, *self._tail, b"# listened for %.3f s\n" % seconds])

    def _add(self, seconds: float, piece: bytes) -> None:
        if self._began is None:
            self._began = seconds
        self._line += piece[: LINE_BYTES - len(self._line)]

    def _end_line(self) -> None:
        line = b"[%12.6f] %s\n" % (max(self._began or 0.0, 0.0), self._line.rstrip(b"\r"))
        self._line, self._began = b"", None
        if not self._tail and self._head_size + len(line) <= HEAD_BYTES:
            self._head.append(line)
            self._head_size += len(line)
            return
        self._tail.append(line)
        self._tail_size += len(line)
        while self._tail_size > TAIL_BYTES:
            oldest = self._tail.popleft()
            self._tail_size -= len(oldest)
            self._dropped += len(oldest)
