"""The last that went over a serial port, both ways, for whoever looks into a failure.

It lies in /run, root's alone, one file a port: bounded, not synced, and gone after a reboot.
"""

import os
import time
from collections import deque
from pathlib import Path
from typing import AbstractSet, Deque, List, Optional

from fleetflash.agent import guard
from fleetflash.agent.ports import SerialPort

#: What is kept of a port: so many bursts, and so many bytes of the beginning of each.
BURSTS, HEAD = 200, 48
#: Bytes in one direction belong together when they are no further apart, in seconds.
PAUSE = 0.02
_TEXT = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


class Capture:
    """Bursts of one port. ``contents`` is false where they could hold what nobody may read, such as a flash's data."""

    def __init__(self, contents: bool = True) -> None:
        self.contents = contents
        self._bursts: Deque[_Burst] = deque(maxlen=BURSTS)

    def note(self, text: str) -> None:
        self._bursts.append(_Burst(text))

    def add(self, direction: str, data: bytes) -> None:
        """Take in bytes that were read (``<``) or written (``>``)."""
        last = self._bursts[-1] if self._bursts else None
        if last is None or last.direction != direction or time.monotonic() - last.at > PAUSE:
            last = _Burst(direction)
            self._bursts.append(last)
        last.add(data, HEAD if self.contents else 0)

    def lines(self) -> List[str]:
        return [str(burst) for burst in self._bursts]


class _Burst:
    def __init__(self, direction: str) -> None:
        self.direction = direction
        self.began = self.at = time.monotonic()
        self.head = b""
        self.size = 0

    def add(self, data: bytes, most: int) -> None:
        self.head += data[: max(0, most - len(self.head))]
        self.size += len(data)
        self.at = time.monotonic()

    def __str__(self) -> str:
        if not self.size:
            return f"{self.began:.3f} {self.direction}"
        text = self.head.decode("ascii") if _TEXT.issuperset(self.head) else ""
        shown = repr(text) if text else self.head.hex()
        words = [f"{self.began:.3f} {self.direction} {self.size} bytes", shown, "…" * (len(self.head) < self.size)]
        return " ".join(filter(None, words))


class Recorder:
    """Opens ports for a transaction. ``silent``: devices of which only the numbers of bytes are kept."""

    def __init__(self, transaction_id: str, silent: AbstractSet[str] = frozenset()) -> None:
        self.transaction_id = transaction_id
        self.silent = silent

    def open(self, path: str, baud: int) -> SerialPort:
        """Open a port as ``SerialPort.open`` does."""
        port = _CapturedPort.open(path, baud)
        assert isinstance(port, _CapturedPort)
        port.begin(path_for(path), self.transaction_id, Capture(path not in self.silent), baud)
        return port


def path_for(device: str) -> Path:
    return guard.RUN / "serial" / f"{Path(device).name}.txt"


def read(transaction_id: str, directory: Optional[Path] = None) -> "dict[str, List[str]]":
    """Return device name → lines, of the ports that this transaction has used."""
    found = {}
    for path in sorted((directory or guard.RUN / "serial").glob("*.txt")):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines and lines[0] == _head(transaction_id):
            found[path.stem] = lines[1:]
    return found


def _head(transaction_id: str) -> str:
    return f"# transaction {transaction_id}; seconds of the host's monotonic clock, < read, > written"


class _CapturedPort(SerialPort):
    """Writes what it remembers when it is closed: also what an earlier one of the transaction had left there."""

    _capture: Optional[Capture] = None

    def begin(self, path: Path, transaction_id: str, capture: Capture, baud: int) -> None:
        self._path, self._head = path, _head(transaction_id)
        self._capture = capture
        capture.note(f"{self.name} opened at {baud} bit/s")

    def read_some(self, size: int) -> bytes:
        data = super().read_some(size)
        if data and self._capture is not None:
            self._capture.add("<", data)
        return data

    def write_some(self, data: memoryview) -> int:
        count = super().write_some(data)
        if count and self._capture is not None:
            self._capture.add(">", bytes(data[:count]))
        return count

    def close(self) -> None:
        capture, self._capture = self._capture, None
        super().close()
        if capture is not None:
            _keep(self._path, self._head, capture.lines())


def _keep(path: Path, head: str, lines: List[str]) -> None:
    """Being looked at later is never a reason to fail: a full /run loses it."""
    try:
        before = path.read_text(errors="replace").splitlines() if path.exists() else []
        kept = before[1:] if before[:1] == [head] else []
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([head, *[*kept, *lines][-BURSTS:]]) + "\n")
    except OSError:
        pass
