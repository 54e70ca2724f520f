"""Who has a serial device open: a lock taken by us says nothing about programs that take none."""

import os
import stat
from pathlib import Path
from typing import Iterator, List, Tuple

_COMMAND_LENGTH = 120
_SHOWN = 3
#: Unix98 pseudo-terminals. Each devpts instance (one a container) counts its own from zero.
_PTS_MAJORS = range(136, 144)


def holders(path: str) -> List[Tuple[int, str]]:
    """Return (pid, command) of every other process that has the device open, whatever name it used.

    A device that is gone has none. Only root sees the descriptors of other users' processes.
    """
    try:
        device = Path(path).stat()
    except OSError:
        return []
    own = os.getpid()
    return [(pid, command(pid)) for pid in _pids() if pid != own and _has_open(pid, device)]


def describe(found: List[Tuple[int, str]]) -> str:
    shown = ", ".join(f"pid {pid} ({name})" for pid, name in found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{shown} and {len(found) - _SHOWN} more"


def command(pid: int) -> str:
    """Return the command line of a process in printable form, cut to a line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        text = words.decode(errors="replace") or Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended meanwhile"
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= _COMMAND_LENGTH else text[: _COMMAND_LENGTH - 3] + "..."


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _has_open(pid: int, device: os.stat_result) -> bool:
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for link in links:
        try:
            # Looking at the name first keeps a file on a dead network share from blocking us.
            if str(link.readlink()).startswith("/dev/") and same_device(link.stat(), device):
                return True
        except OSError:
            continue
    return False


def same_device(one: os.stat_result, other: os.stat_result) -> bool:
    """Say whether two names lead to one character device, device nodes in containers included."""
    if not stat.S_ISCHR(one.st_mode) or not stat.S_ISCHR(other.st_mode) or one.st_rdev != other.st_rdev:
        return False
    if os.major(one.st_rdev) in _PTS_MAJORS:
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    return True
