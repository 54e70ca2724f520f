"""The end of a log, read without taking in all of it, whoever may write to the directory that it lies in."""

import os
import stat
import subprocess
from pathlib import Path
from typing import List, Sequence

from fleetflash.agent.schema import Excerpt

LINES = 200
#: No line of a log is worth more than this many characters.
LINE_LENGTH = 1000
#: As much of a file's end is looked at, in bytes.
WINDOW = 256 * 1024
#: A program that reads a log gets this long, in seconds.
SECONDS = 20.0


def of_file(path: Path, owner: int, lines: int = LINES) -> Excerpt:
    """Return a file's last lines.

    Root reads what the user ``owner`` may have put there: no symbolic link is followed, and only what everybody or that
    user may read is read.
    """
    try:
        data = _end_of(path, owner)
    except OSError as error:
        return Excerpt(str(path), error=error.strerror or str(error))
    return Excerpt(str(path), _last(data.decode(errors="replace").splitlines(), lines))


def of_command(command: Sequence[str], lines: int = LINES) -> Excerpt:
    """Return the last lines that a program prints, or what it complains of."""
    source = " ".join(command)
    try:
        result = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Excerpt(source, error=str(error))
    printed = result.stdout[-WINDOW:].decode(errors="replace").splitlines()
    said = result.stderr.decode(errors="replace").strip().splitlines()
    return Excerpt(source, _last(printed, lines), said[-1][:LINE_LENGTH] if said and not printed else "")


def _end_of(path: Path, owner: int) -> bytes:
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError("it is no regular file")
        if facts.st_uid != owner and not facts.st_mode & stat.S_IROTH:
            raise OSError(f"it belongs to user {facts.st_uid}, and not everybody may read it")
        start = max(0, facts.st_size - WINDOW)
        file.seek(start)
        data = file.read(WINDOW)
    # What begins in the middle of a line is no line.
    return data.partition(b"\n")[2] if start else data


def _last(found: List[str], lines: int) -> List[str]:
    return [line[:LINE_LENGTH] for line in found[-lines:]]
