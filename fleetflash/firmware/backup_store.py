"""The controller's copies of backups: what boards ran before they were written, of every host.

::

    <store>/backups/
      images/<sha256>.bin      the bytes, readable for the owner alone: what was read from a board may hold secrets
      records/<id>.json        {"host": …, "backup": {…}}, the backup as ``agent.schema.Backup``

The same bytes of the same chip are one record, that of their newest backup. A record appears after its bytes, and its
bytes go after it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.agent.retention import expired
from fleetflash.agent.schema import Backup, Retention, SchemaError, from_json, to_json
from fleetflash.firmware.durable import one_writer, sync_directory
from fleetflash.firmware.errors import AmbiguousArtifactError, ArtifactMissingError, StoreError
from fleetflash.firmware.location import default_store

#: Where in an artifact store the backups are.
DIRECTORY = "backups"
_LOCK = ".lock"
_LEAST_DIGITS = 4


@dataclass(frozen=True)
class Kept:
    """A backup of a board of ``host``, as the inventory calls it."""

    host: str
    backup: Backup

    @property
    def id(self) -> str:
        """The sha256 of whose bytes these are."""
        backup = self.backup
        whose = [self.host, backup.board, backup.kind, backup.chip, backup.uid, backup.image.sha256]
        return hashlib.sha256(json.dumps(whose).encode()).hexdigest()

    @property
    def short_id(self) -> str:
        return self.id[:12]


class BackupStore:
    """Backups in ``<store>/backups``, which need not exist. Raises ``StoreError`` and its subclasses, in one line."""

    def __init__(self, store: Path | str | None = None) -> None:
        self.directory = (Path(store).expanduser() if store is not None else default_store()) / DIRECTORY

    def add(self, kept: Kept, read: Callable[[], bytes]) -> bool:
        """Keep a backup; return whether it was not there yet. ``read`` gives its bytes, and is called if need be."""
        sha256, path = kept.backup.image.sha256, self.image(kept)
        there = _sha256(path) == sha256
        if there and self._read(self._record(kept.id)) == kept:
            return False
        # Not under the lock: other hosts' backups must not wait for this one's link.
        data = path.read_bytes() if there else read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"backup {kept.short_id}: these are not the bytes that its record names")
        with self._writing():
            if _sha256(path) != sha256:
                _write(path, data)
            text = json.dumps({"host": kept.host, "backup": to_json(kept.backup)}, indent=1, sort_keys=True)
            _write(self._record(kept.id), text.encode() + b"\n")
        return True

    def find(self, *, host: str | None = None, board: str | None = None) -> list[Kept]:
        """Return the backups, newest first; records that can't be read are ``verify``'s to name."""
        found = [kept for kept in map(self._read, self._records()) if kept is not None]
        chosen = [k for k in found if host in (None, k.host) and board in (None, k.backup.board)]
        return sorted(chosen, key=lambda kept: (-kept.backup.taken_at, kept.host, kept.backup.board, kept.id))

    def get(self, prefix: str) -> Kept:
        """Return the backup of an id, or of a beginning that only one has."""
        found = [kept for kept in self.find() if kept.id.startswith(prefix.lower())]
        if len(prefix) < _LEAST_DIGITS or not found:
            raise ArtifactMissingError(
                f"no backup {prefix!r} in {self.directory}; give at least {_LEAST_DIGITS} digits of an id, "
                "'fleetflash backup list' shows them"
            )
        if len(found) > 1:
            raise AmbiguousArtifactError(f"{len(found)} backups begin with {prefix}; give more digits")
        return found[0]

    def image(self, kept: Kept) -> Path:
        """Return where a backup's bytes lie; they are not checked."""
        return self.directory / "images" / f"{kept.backup.image.sha256}.bin"

    def read(self, kept: Kept) -> bytes:
        """Return a backup's bytes; raises ``StoreError`` when they are not those of its record."""
        path, expected = self.image(kept), kept.backup.image.sha256
        found = _sha256(path)
        if found != expected:
            raise StoreError(f"{path}: expected sha256 {expected[:12]}, found {found[:12] or 'no file'}")
        return path.read_bytes()

    def retain(self, host: str, retention: Retention, now: float) -> list[Kept]:
        """Delete the backups of a host's boards that ``retention`` lets go, and return them."""
        gone: list[Kept] = []
        with self._writing():
            for board in {kept.backup.board for kept in self.find(host=host)}:
                backups = [kept.backup for kept in self.find(host=host, board=board)]
                gone += [Kept(host, backup) for backup in expired(backups, retention, now)]
            for kept in gone:
                self._record(kept.id).unlink(missing_ok=True)
            if gone:
                sync_directory(self.directory / "records")
            records = [self._read(path) for path in self._records()]
            if None not in records:  # bytes of a record that can't be read are nobody's to delete
                named = {kept.backup.image.sha256 for kept in records if kept is not None}
                for kept in gone:
                    if kept.backup.image.sha256 not in named:
                        self.image(kept).unlink(missing_ok=True)
        return gone

    def verify(self) -> list[tuple[str, str]]:
        """Check every backup; return (file or id, what is wrong with it)."""
        problems = []
        named = set()
        for path in self._records():
            kept = self._read(path)
            if kept is None or kept.id != path.stem:
                problems.append((path.name, "is no record of a backup, or not of this one; remove it"))
                continue
            named.add(kept.backup.image.sha256)
            try:
                self.read(kept)
            except StoreError as error:
                problems.append((kept.short_id, f"{kept.host}/{kept.backup.board}: {error}"))
        for path in sorted(self.directory.glob("images/*")):
            if path.stem not in named:
                problems.append((path.name, "belongs to no backup; remove it"))
        return problems

    def _record(self, id: str) -> Path:
        return self.directory / "records" / f"{id}.json"

    def _records(self) -> list[Path]:
        with _reported(self.directory):
            return sorted(self.directory.glob("records/*.json"))

    def _read(self, path: Path) -> Kept | None:
        try:
            value = json.loads(path.read_bytes())
            return Kept(str(value["host"]), from_json(Backup, value["backup"]))
        except (OSError, ValueError, KeyError, TypeError, SchemaError):
            return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _reported(self.directory):
            parts = (self.directory / "images", self.directory / "records")
            for directory in (self.directory.parent, self.directory, *parts):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_writer(self.directory / _LOCK):
                yield


def _sha256(path: Path) -> str:
    """Return a file's sha256; empty when it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; make it readable") from None


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, its owner's alone, and wait until it is on disk."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def _reported(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"backups in {directory}: {error.strerror or error}") from None
