"""What an ESP chip says when its software has failed, so that it can be forbidden, kept and decoded.

Source: ESP-IDF guide, "Fatal Errors" (panic handler, register dump, backtrace, brownout, stack overflow, assertions).
"""

import re
from dataclasses import dataclass
from typing import List

from fleetflash.agent.acceptance.lines import Line

#: How a panic begins.
PANIC = (
    r"Guru Meditation Error|abort\(\) was called at PC|assert failed:|\*\*\*ERROR\*\*\* A stack overflow in task"
    r"|Stack smashing protect failure|Task watchdog got triggered|Debug exception reason"
)
BROWNOUT = r"Brownout detector was triggered"

_PANIC = re.compile(PANIC)
_END = re.compile(r"Rebooting\.\.\.|CPU halted|Entering gdb stub|rst:0x[0-9a-f]+ \(")
#: No more panics are kept than this, and of each no more than so many lines and characters a line.
MOST_PANICS, MOST_LINES, MOST_CHARACTERS = 4, 120, 400


@dataclass(frozen=True)
class Panic:
    """``number``: of its first line in the log. ``lines``: from that on to the restart."""

    number: int
    lines: List[str]


class PanicRecorder:
    """Keeps the first panics of a log."""

    def __init__(self) -> None:
        self.panics: List[Panic] = []
        self._open = False

    def hear(self, line: Line) -> None:
        if self._open:
            lines = self.panics[-1].lines
            if _END.search(line.text) or len(lines) >= MOST_LINES:
                self._open = False
            else:
                lines.append(line.text[:MOST_CHARACTERS])
        elif len(self.panics) < MOST_PANICS and _PANIC.search(line.text):
            self.panics.append(Panic(line.number, [line.text[:MOST_CHARACTERS]]))
            self._open = True
