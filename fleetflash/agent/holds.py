"""What keeps a board where a rollback has brought it, until somebody lifts that.

::

    /var/lib/fleetflash/holds/<board>.json      a ``schema.Hold``; also of the host code
"""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Optional

from fleetflash.agent import disk
from fleetflash.agent.as_json import SchemaError, from_json, to_json
from fleetflash.agent.observed import HOST_CODE, Hold
from fleetflash.agent.store import Store

if TYPE_CHECKING:
    from fleetflash.agent.schema import Transaction

#: A hold that can't be read holds all the same: no image has this hash.
DAMAGED = Hold("", "unknown", "unknown", "", "unknown")


class Holds:
    """The holds of a host's boards, in the agent's store."""

    def __init__(self, store: Store):
        self.store = store

    def all(self) -> Dict[str, Hold]:
        """Return board → its hold."""
        return {path.stem: _read(path) for path in sorted(self._directory.glob("*.json"))}

    def of(self, board: str) -> Optional[Hold]:
        path = self._path(board)
        return _read(path) if path.exists() else None

    def put(self, board: str, hold: Hold) -> None:
        """Hold a board, on the disk when this returns. One that is there already for the same image stays."""
        found = self.of(board)
        if found is not None and (found.image_sha256, found.target) == (hold.image_sha256, hold.target):
            return
        written = to_json(dataclasses.replace(hold, since=round(time.time(), 3)))
        self.store.reserve.spend(lambda: disk.write_json(self._path(board), written))

    def lift(self, board: str) -> None:
        """Let a board go; one that isn't held is fine."""
        disk.remove(self._path(board))

    def contradicts(self, transaction: "Transaction") -> str:
        """Say which hold forbids a transaction; empty when none does. A rollback knows what it replaces."""
        if transaction.holds:
            return ""
        wanted = {board.name: board.wanted.sha256 for board in transaction.boards}
        if transaction.host_code is not None:
            wanted[HOST_CODE] = transaction.host_code.wanted
        for name, sha256 in wanted.items():
            hold = self.of(name)
            if hold is not None and hold.image_sha256 != sha256:
                return f"{name}: held at {hold.version} by a rollback of {hold.controller} since the plan was made"
        return ""

    @property
    def _directory(self) -> Path:
        return self.store.root / "holds"

    def _path(self, board: str) -> Path:
        return self._directory / f"{board}.json"


def _read(path: Path) -> Hold:
    try:
        return from_json(Hold, disk.read_json(path))
    except SchemaError:
        return DAMAGED
