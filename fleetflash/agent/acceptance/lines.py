"""Lines of a log, however long it and they are: what comes in pieces is cut into numbered lines with their times.

Sources: ESP-IDF guide, "Logging library", for ``I (1234) tag: message`` (milliseconds since the start) and its colours;
"Application Startup Flow" and published logs for what ROM, bootloader and application begin with.
"""

import re
from typing import Iterator, NamedTuple, Optional

#: More of a line than this many bytes is not looked at.
MOST_BYTES = 1024

_COLOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LOG = re.compile(r"([EWIDV]) \((\d+|\d\d:\d\d:\d\d\.\d{3})\) ([^:]{1,64}): ?(.*)", re.DOTALL)

#: What a start goes through, in this order; each of them may be configured to be silent.
ROM, BOOTLOADER, APPLICATION = 1, 2, 3
_ROM = re.compile(r"rst:0x[0-9a-f]+ \(\w+\)")
#: What the ROM says before that.
_GREETING = re.compile(r"ets [A-Z][a-z]{2} |ESP-ROM:|Build:|\s*$")
_BOOTLOADER = re.compile(r"(?:ESP-IDF .*)?2nd stage bootloader")


class Line(NamedTuple):
    """``number`` counts from 1. ``received``: seconds since the reset, where somebody has noted them.

    ``text`` is without colours and line end, and cut after ``MOST_BYTES``. ``level``, ``tag`` and ``message`` are those
    of ESP-IDF's log, else empty; ``stamp``: its time in seconds since the chip's last start.
    """

    number: int
    text: str
    received: Optional[float] = None
    level: str = ""
    tag: str = ""
    message: str = ""
    stamp: Optional[float] = None


def parse(number: int, text: str, received: Optional[float] = None) -> Line:
    """Return a line with what ESP-IDF's log says in it."""
    if "\x1b" in text:
        text = _COLOR.sub("", text)
    found = _LOG.match(text) if text[1:3] == " (" else None
    if found is None:
        return Line(number, text, received)
    level, stamp, tag, message = found.groups()
    seconds = int(stamp) / 1000 if stamp.isdecimal() and len(stamp) < 16 else None
    return Line(number, text, received, level, tag, message, seconds)


def stage(line: Line) -> int:
    """Say what starts with a line: ``ROM``, ``BOOTLOADER`` or ``APPLICATION``; 0 for nothing."""
    if not line.tag:
        return ROM if "rst:0x" in line.text and _ROM.search(line.text) else 0
    if line.tag == "boot" and _BOOTLOADER.match(line.message):
        return BOOTLOADER
    if line.tag in ("app_init", "cpu_start") and line.message.startswith("Application information:"):
        return APPLICATION
    return 0


def is_greeting(line: Line) -> bool:
    """Whether a line is, or may be, one that the ROM says before it tells why it starts."""
    return _GREETING.match(line.text) is not None


class LineCutter:
    """Cuts what comes in pieces into lines; keeps no more of them than the one that has not ended."""

    def __init__(self) -> None:
        self.number = 0
        self._rest = b""
        self._received: Optional[float] = None
        self._open = False  # something of the line that has not ended was seen

    def cut(self, data: bytes, received: Optional[float] = None) -> Iterator[Line]:
        """Yield the lines that end in ``data``; each has the time when its first byte was received."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            yield self._end(piece, received)
        if rest:
            if not self._open:
                self._received = received
            self._open = True
            self._rest += rest[: MOST_BYTES - len(self._rest)]

    def end(self) -> Iterator[Line]:
        """Yield the line that the log breaks off in, if any."""
        if self._open:
            yield self._end(b"", None)

    def _end(self, piece: bytes, received: Optional[float]) -> Line:
        if self._open:
            received = self._received
            piece = self._rest + piece[: MOST_BYTES - len(self._rest)]
            self._rest, self._open = b"", False
        self.number += 1
        return parse(self.number, piece[:MOST_BYTES].rstrip(b"\r").decode("utf-8", "replace"), received)
