"""A host's wall clock: how far its processes see it ahead of the machine's (``shim/clock.c``)."""

import os
import struct
from pathlib import Path

#: Where the host sees its clock's directory.
INSIDE = "/run/fleetflash-clock"
_NANOSECONDS = struct.Struct("=q")


def directory(host: Path) -> Path:
    """What the host sees of its clock; ``host`` is its directory in the lab."""
    return host / "clock"


def reset(host: Path) -> None:
    """Set the clock of a host that is off by the machine's."""
    directory(host).mkdir(exist_ok=True)
    _file(host).write_bytes(_NANOSECONDS.pack(0))


def move(host: Path, seconds: float) -> None:
    """Move the clock, at once and for every process that runs; negative: back."""
    # In place: this very file is mapped by every process.
    with open(_file(host), "r+b", buffering=0) as file:
        (ahead,) = _NANOSECONDS.unpack(file.read(_NANOSECONDS.size))
        os.pwrite(file.fileno(), _NANOSECONDS.pack(ahead + round(seconds * 1_000_000_000)), 0)


def _file(host: Path) -> Path:
    return directory(host) / "ahead"
