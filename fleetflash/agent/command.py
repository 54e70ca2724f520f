"""A user's own command: it runs as root, from ``/``, without a terminal or input, in a process group of its own.

What it leaves running in that group is ended with it. The environment says which board it is about:
``FLEETFLASH_BOARD``, ``_PORT`` (its device), ``_CHIP``, ``_UID`` (empty where none is known), ``_FROM``, ``_TO``
(versions) and ``_TRANSACTION``.
"""

import os
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from fleetflash.agent.schema import BoardTransaction

#: How much of its output is kept, in bytes: the last.
OUTPUT_BYTES = 4096
_LAST_LINES, _LINE_LENGTH, _LAST_READS = 2, 160, 16
_POLL_MS = 50
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Finished:
    """How a command ended. ``code``: its exit code, negative for a signal, ``None`` when its time was up."""

    code: Optional[int]
    output: str
    seconds: float

    @property
    def last_words(self) -> str:
        """The end of what it said, in one printable line."""
        lines = [line.strip()[:_LINE_LENGTH] for line in re.split(r"[\r\n]+", self.output) if line.strip()]
        said = " | ".join("".join(c if c.isprintable() else "." for c in line) for line in lines[-_LAST_LINES:])
        return said or "nothing"


def run(words: List[str], seconds: float, board: BoardTransaction, transaction: str) -> Finished:
    """Run a program to its end, or until ``seconds`` are over; one that can't start has 127."""
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            words,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **_environment(board, transaction)},
        )
    except OSError as error:
        return Finished(127, f"{words[0]}: {error.strerror or error}", 0.0)
    code, output = _finish(process, began + seconds)
    return Finished(code, output.decode(errors="replace"), round(time.monotonic() - began, 2))


def _environment(board: BoardTransaction, transaction: str) -> Dict[str, str]:
    facts = {
        "BOARD": board.name,
        "PORT": board.device,
        "CHIP": board.chip,
        "UID": board.uid,
        "FROM": board.expected.version,
        "TO": board.wanted.version,
        "TRANSACTION": transaction,
    }
    return {f"FLEETFLASH_{name}": value for name, value in facts.items()}


class _Output:
    """The last of what a process says."""

    def __init__(self, descriptor: int):
        self.data = b""
        self.is_open = True
        self._descriptor = descriptor
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLIN)

    def take(self, milliseconds: int) -> bool:
        """Take in what comes within this time; false when nothing does."""
        if not self.is_open or not self._poller.poll(milliseconds):
            return False
        data = os.read(self._descriptor, 65536)
        self.data = (self.data + data)[-OUTPUT_BYTES:]
        self.is_open = bool(data)
        return True


def _finish(process: "subprocess.Popen[bytes]", deadline: float) -> Tuple[Optional[int], bytes]:
    """Wait for a process, taking in what it says; return its exit code, if it has ended, and the end of its output."""
    assert process.stdout is not None
    output = _Output(process.stdout.fileno())
    while not _has_ended(process) and time.monotonic() < deadline:
        if not output.take(_POLL_MS) and not output.is_open:
            time.sleep(_POLL_MS / 1000)
    in_time = _has_ended(process)
    os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # it waits for a device, inside the kernel; nobody can do more
    for _ in range(_LAST_READS):  # a process that has left the group may talk without end
        if not output.take(0):
            break
    process.stdout.close()
    return process.returncode if in_time else None, output.data


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a process has ended. It is not reaped, so that nobody else can get its group's number meanwhile."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
