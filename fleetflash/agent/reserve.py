"""Disk space kept aside while boards are written, so that a disk that fills up meanwhile can't stop the record."""

import errno
import os
from pathlib import Path
from typing import Callable, TypeVar

from fleetflash.agent import disk

T = TypeVar("T")

#: Enough for the journal, the ledger and the outcome of a transaction over many boards, in bytes.
SIZE = 512 * 1024


class Reserve:
    """A file that takes up space until it is needed."""

    def __init__(self, path: Path):
        self.path = path

    def take(self) -> None:
        """Raises ``OSError`` when the disk has no room for it."""
        disk.make_directory(self.path.parent)
        try:
            with self.path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
        except OSError:
            disk.remove(self.path)
            raise

    def release(self) -> None:
        disk.remove(self.path)

    def spend(self, write: Callable[[], T]) -> T:
        """Call ``write``; when the disk is full, release the reserve and call it again. ``write`` can be repeated."""
        try:
            return write()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self.path.exists():
                raise
            self.release()
            return write()
