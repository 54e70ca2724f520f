"""Images that were read back from boards: what a board ran before it was first written, kept as a way back.

::

    /var/lib/fleetflash/
      images/<sha256>.bin           the bytes, as every other image
      backups/<board>.json          the board's backups, newest first: [{image, chip, uid, transaction, read_at}]
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List

from fleetflash.agent import disk
from fleetflash.agent.schema import BoardTransaction, Firmware, Image, SchemaError, from_json, to_json
from fleetflash.agent.store import Store, StoreError

#: Backups that are kept of each board.
KEPT_BACKUPS = 3


@dataclass(frozen=True)
class Backup:
    """``image`` is what was read; it belongs to the chip with that ``uid`` (empty where none is known) alone."""

    image: Image
    chip: str
    uid: str
    flash_offset: int
    transaction: str
    read_at: float


class Backups:
    """The backups of a host's boards, in the agent's store."""

    def __init__(self, store: Store):
        self.store = store

    def add(self, board: BoardTransaction, data: bytes, running: Firmware, uid: str, transaction: str) -> Image:
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
        backup = Backup(image, board.chip, uid, board.flash_offset, transaction, round(time.time(), 3))
        others = [other for other in self.of(board.name) if other.image.sha256 != sha256]
        disk.write_json(self._path(board.name), [to_json(kept) for kept in [backup, *others][:KEPT_BACKUPS]])
        return image

    def of(self, board: str) -> List[Backup]:
        """Return a board's backups, newest first; those that can't be read are left out."""
        found = []
        entries = disk.read_json(self._path(board))
        for entry in entries if isinstance(entries, list) else []:
            try:
                found.append(from_json(Backup, entry))
            except SchemaError:
                continue
        return found

    def before_unfinished(self, board: BoardTransaction, uid: str) -> Image:
        """Return what was read from a board before the write that was interrupted; raises ``StoreError``."""
        for backup in self.of(board.name):
            if (backup.chip, backup.flash_offset, backup.uid) == (board.chip, board.flash_offset, uid):
                self.store.read_image(backup.image.sha256)
                return backup.image
        raise StoreError(
            f"{board.name}: an earlier write was interrupted, so what it holds now is no way back; register a "
            "known-good image, or set accept_no_way_back = True"
        )

    def _path(self, board: str) -> Path:
        return self.store.root / "backups" / f"{board}.json"
