"""A log as a file: fleetflash's own ``monitor.log``, one of ``idf.py monitor --timestamps``, or what a terminal kept.

The first two have a time for every line, noted where it was received; in the last only the chip's own stamps tell any.
Source: esp-idf-monitor's README, ``--timestamps`` and its default format ``%Y-%m-%d %H:%M:%S``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from fleetflash.acceptance.errors import LogError
from fleetflash.agent.acceptance.judge import Judge
from fleetflash.agent.acceptance.lines import Line, LineCutter, parse
from fleetflash.agent.acceptance.monitor_log import END, HEADER, LINE
from fleetflash.agent.acceptance.verdict import Verdict

_PIECE = 64 * 1024
_DATED = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?) ?")


@dataclass
class LogFile:
    """Reads lines out of a file. ``listened``: seconds, once a ``monitor.log`` has told it at its end."""

    file: BinaryIO
    name: str
    listened: float | None = None

    def lines(self) -> Iterator[Line]:
        """Yield the chip's lines; their numbers are those of the file. Raises ``LogError``."""
        strip = None
        first: datetime | None = None
        for raw in self._raw():
            if strip is None:
                strip = _kind(raw.text)
            if strip == "monitor":
                line = self._monitored(raw)
                if line is not None:
                    yield line
            elif strip == "dated" and (found := _DATED.match(raw.text)):
                when = datetime.fromisoformat(found[1].replace(",", "."))
                first = first or when
                yield parse(raw.number, raw.text[found.end() :], (when - first).total_seconds())
            else:
                yield raw

    def _raw(self) -> Iterator[Line]:
        cutter = LineCutter()
        try:
            while data := self.file.read(_PIECE):
                yield from cutter.cut(data)
        except OSError as error:
            raise LogError(f"{self.name}: {error.strerror}") from None
        yield from cutter.end()
        if not cutter.number:
            raise LogError(f"{self.name}: the log is empty; nothing can be said of this boot")

    def _monitored(self, raw: Line) -> Line | None:
        text = raw.text.encode()
        if found := LINE.match(text):
            return parse(raw.number, text[found.end() :].decode(), float(found[1]))
        if found := END.match(text):
            self.listened = float(found[1])
        return None


def _kind(text: str) -> str:
    if text.startswith(HEADER):
        return "monitor"
    return "dated" if _DATED.match(text) else "plain"


def judge_log(judge: Judge, log: LogFile, listened: float | None = None) -> Verdict:
    """Judge a whole log. ``listened``: for how many seconds it was recorded, if the log doesn't tell."""
    for line in log.lines():
        judge.hear(line)
    return judge.verdict(listened if listened is not None else log.listened)
