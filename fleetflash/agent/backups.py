"""What boards ran before they were written, kept as a way back: read back from them, or a registered image.

::

    /var/lib/fleetflash/
      images/<sha256>.bin           the bytes, as every other image
      backups/<board>.json          the board's backups, newest first, each as ``schema.Backup``
"""

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, List, Tuple

from fleetflash.agent import disk
from fleetflash.agent.retention import expired
from fleetflash.agent.schema import (
    Backup,
    BoardTransaction,
    Firmware,
    Image,
    Retention,
    SchemaError,
    Transaction,
    from_json,
    to_json,
)
from fleetflash.agent.store import Store, StoreError

READ_BACK, KNOWN_GOOD = "read-back", "known-good"


@dataclass(frozen=True)
class Occasion:
    """When a backup is taken, by which transaction, and why."""

    transaction: str
    reason: str
    time: float

    @classmethod
    def of(cls, transaction: Transaction, board: BoardTransaction) -> "Occasion":
        reason = transaction.reason
        if not transaction.backup_only:
            before = f"before {board.wanted.version} was written"
            reason = f"{before}: {reason}" if reason else before
        return cls(transaction.id, reason, transaction.started_at or round(time.time(), 3))


class Backups:
    """The backups of a host's boards, in the agent's store."""

    def __init__(self, store: Store):
        self.store = store

    def add(self, board: BoardTransaction, data: bytes, running: Firmware, uid: str, occasion: Occasion) -> Image:
        """Put what was read from a board on the disk, checked, and return it as an image to write back.

        + running: what the board said that it ran before it was read; a board that said nothing is restored without
          being asked
        + uid: of the chip that was read

        The bytes are on the disk before the list names them, and root's alone: what was read may hold secrets. Raises
        ``StoreError`` when nothing was read, or when the disk holds something else than what was written.
        """
        if not data:
            raise StoreError(
                f"{board.name}: its flash is empty, so there is nothing to go back to; set accept_no_way_back = True"
            )
        sha256 = hashlib.sha256(data).hexdigest()
        image = Image(
            artifact="",
            sha256=sha256,
            size=len(data),
            version=running.version,
            build_versions=running.build_versions,
            constants=dict(running.constants),
            klipper=bool(running.version),
        )
        disk.write_file(self.store.image(sha256), data, mode=0o600)
        self.store.read_image(sha256)
        self._record(board, READ_BACK, image, uid, occasion)
        return image

    def add_known_good(self, board: BoardTransaction, image: Image, uid: str, occasion: Occasion) -> None:
        """Record an image that lies on the disk already, and is the way back of the board that is about to be written.

        + uid: of the chip that will be written
        """
        self._record(board, KNOWN_GOOD, image, uid, occasion)

    def _record(self, board: BoardTransaction, kind: str, image: Image, uid: str, occasion: Occasion) -> None:
        backup = Backup(
            *(board.name, kind, image, board.chip, uid, board.flash_offset),
            *(occasion.transaction, occasion.reason, occasion.time),
        )
        same = (kind, image.sha256, uid)
        others = [other for other in self.of(board.name) if (other.kind, other.image.sha256, other.uid) != same]
        self._write(board.name, [backup, *others])

    def of(self, board: str) -> List[Backup]:
        """Return a board's backups, newest first; those that can't be read are left out."""
        return self._entries(board)[0]

    def _entries(self, board: str) -> Tuple[List[Backup], List[Any]]:
        """Return a board's backups, and what another version of the agent may be able to read."""
        found, others = [], []
        entries = disk.read_json(self._path(board))
        for entry in entries if isinstance(entries, list) else []:
            try:
                found.append(from_json(Backup, entry))
            except SchemaError:
                others.append(entry)
        return found, others

    def before_unfinished(self, board: BoardTransaction, uid: str) -> Image:
        """Return what a board ran before the write that was interrupted; raises ``StoreError``."""
        for backup in self.of(board.name):
            if (backup.chip, backup.flash_offset, backup.uid) == (board.chip, board.flash_offset, uid):
                self.store.read_image(backup.image.sha256)
                return backup.image
        raise StoreError(
            f"{board.name}: an earlier write was interrupted, so what it holds now is no way back; register a "
            "known-good image, or set accept_no_way_back = True"
        )

    def retain(self, boards: Iterable[str], retention: Retention, now: float) -> None:
        """Forget backups of ``boards`` that ``retention`` lets go; their bytes go with the next ``Store.prune``.

        What can't be forgotten, on a disk that is full, stays: that is no reason to fail.
        """
        unfinished = self.store.unfinished()
        for board in boards:
            backups = self.of(board)
            gone = expired(backups, retention, now, unfinished)
            try:
                if gone:
                    self._write(board, [backup for backup in backups if backup not in gone])
            except OSError as error:
                print(f"backups of {board}: {error}", file=sys.stderr)

    def _write(self, board: str, backups: List[Backup]) -> None:
        path = self._path(board)
        self.store.put_damaged_aside(path)
        entries = [*(to_json(backup) for backup in backups), *self._entries(board)[1]]
        self.store.reserve.spend(lambda: disk.write_json(path, entries))

    def _path(self, board: str) -> Path:
        return self.store.root / "backups" / f"{board}.json"
