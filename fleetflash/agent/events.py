"""How a running transaction is watched: JSON lines in /run, for whoever follows it over SSH.

They are not the journal: they also carry progress, aren't synced, and are gone after a reboot.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from fleetflash.agent import guard

#: Progress is reported at most this often, in seconds.
PROGRESS_INTERVAL = 0.2
POLL_INTERVAL = 0.05


def path_for(transaction_id: str) -> Path:
    return guard.RUN / f"{transaction_id}.events"


class EventWriter:
    """Appends one event a line. Being watched is never a reason to fail: a full /run loses events, nothing else."""

    def __init__(self, path: Path):
        self.path = path
        self._last_progress = 0.0

    def write(self, event: Dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(json.dumps(event, sort_keys=True).encode() + b"\n")
        except OSError:
            pass

    def progress(self, board: str, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last_progress < PROGRESS_INTERVAL:
            return
        self._last_progress = now
        self.write({"step": "progress", "board": board, "phase": phase, "done": done, "total": total})


class EventReader:
    """Yields events as they are appended, from the first on."""

    def __init__(self, path: Path):
        self.path = path
        self._position = 0
        self._rest = b""

    def read(self) -> Iterator[Dict[str, Any]]:
        """Yield what has come since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._position, os.SEEK_SET)
                data = file.read()
        except FileNotFoundError:
            return
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = _parse(line)
            if event is not None:
                yield event


def _parse(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
