"""Reads what ``candump -L`` writes, line by line. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetflash.functional.errors import CanLogError

#: An identifier of eight digits with this bit is an error frame (can-utils, lib.h, example 32345678#112233).
_ERROR_FLAG = 0x20000000
#: can-utils, lib.h: identifier, #, data; R for remote frames; ## and a digit of flags for CAN FD; a raw DLC behind _.
_LINE = re.compile(
    r"\((?P<time>\d{1,12}\.\d{1,9})\)\s+(?P<interface>\S+)\s+(?P<id>[0-9A-Fa-f]{8}|[0-9A-Fa-f]{3})#"
    r"(?:(?P<remote>R[0-9A-Fa-f]?)|#[0-9A-Fa-f](?P<fd>(?:[0-9A-Fa-f]{2}){0,64})|(?P<data>(?:[0-9A-Fa-f]{2}){0,8}))"
    r"(?:_[0-9A-Fa-f])?(?:\s+[RT])?"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A data frame. ``time``: seconds since 1970, by the clock of the host; ``line``: where in the log, from 1 on."""

    time: float
    interface: str
    identifier: int
    extended: bool
    data: bytes
    line: int


def read_frames(lines: Iterable[bytes], name: str) -> Iterator[Frame]:
    """Yield the data frames of a log; remote frames and error frames carry no values and are passed over.

    Raises ``CanLogError`` that names the line, ``name`` being the log's.
    """
    for number, line in enumerate(lines, 1):
        text = line.decode(errors="replace").strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise CanLogError(
                f"{name}: line {number} is {text[:60]!r}, expected (seconds) interface id#data as of candump -L"
            )
        identifier, extended = int(found["id"], 16), len(found["id"]) == 8
        if found["remote"] or (extended and identifier & _ERROR_FLAG):
            continue
        data = bytes.fromhex(found["data"] if found["data"] is not None else found["fd"])
        yield Frame(float(found["time"]), found["interface"], identifier, extended, data, number)


def one_bus(frames: Iterable[Frame], interface: str, name: str) -> Iterator[Frame]:
    """Yield the frames of one interface; raises ``CanLogError`` when ``interface`` is empty and there are several.

    A clock that was set back makes periods meaningless, so it is an error, too.
    """
    last: Frame | None = None
    for frame in frames:
        if interface and frame.interface != interface:
            continue
        if last is not None and frame.interface != last.interface:
            raise CanLogError(f"{name}: frames of {last.interface} and of {frame.interface}; name one as interface")
        if last is not None and frame.time < last.time:
            back = last.time - frame.time
            raise CanLogError(f"{name}: at line {frame.line} the clock goes back by {back:.6f} s; take another capture")
        last = frame
        yield frame
