"""What the agent keeps on the host's disk: images, transactions with their journals, and the ledger of boards.

::

    /var/lib/fleetflash/
      agent/<sha256>.pyz            the agent, by its hash
      agent/<sha256>.<python>.zip   the same, compiled by a version of Python
      images/<sha256>.bin           images to write, and ways back
      transactions/<id>/            transaction.json, journal.jsonl, outcome.json, monitor-<board>-<number>.log
      boards/<name>.json            what the last committed transaction left on a board
      attention/<name>.json         why a board needs a person; latched until cleared
      reserve                       space for the record, should the disk fill up during a transaction
      backups/<name>.json           what a board ran before it was written, see ``backups``
      lineage/<name>.json           what a board ran, see ``lineage``
      holds/<name>.json             what keeps a board after a rollback, see ``holds``
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set

from fleetflash.agent import disk, moment
from fleetflash.agent.as_json import SchemaError, from_json, to_json
from fleetflash.agent.observed import STATE, LedgerEntry
from fleetflash.agent.reserve import Reserve

if TYPE_CHECKING:
    from fleetflash.agent.schema import Transaction

#: Old transactions that are kept for the record.
KEPT_TRANSACTIONS = 20
#: A file that was begun so long ago, in seconds, was left by an agent that died.
UNFINISHED_SECONDS = 3600.0


class StoreError(Exception):
    """The host's own files are missing or damaged. The message names the file."""


class Journal:
    """One JSON line a step, on the disk before the step after it begins."""

    def __init__(self, path: Path, reserve: Reserve):
        self.path = path
        self.reserve = reserve

    def append(self, step: str, **details: Any) -> Dict[str, Any]:
        """Raises ``OSError`` when the line can't be made durable."""
        entry = {**moment.now(), "step": step, **details}
        self.reserve.spend(lambda: self._append(entry))
        return entry

    def _append(self, entry: Dict[str, Any]) -> None:
        line = json.dumps(entry, sort_keys=True).encode() + b"\n"
        created = not self.path.exists()
        descriptor = os.open(str(self.path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # A line that a power cut tore must not swallow this one.
            if not created and self._is_torn():
                line = b"\n" + line
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if created:
            disk.sync_directory(self.path.parent)

    def read(self) -> List[Dict[str, Any]]:
        """Return all whole lines; one that a power cut tore is left out."""
        return list(self._entries())

    def _entries(self) -> Iterator[Dict[str, Any]]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "step" in entry:
                yield entry

    def _is_torn(self) -> bool:
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return False
            file.seek(size - 1)
            return file.read(1) != b"\n"


class Store:
    """The agent's directory on the host. ``root`` differs from ``/var/lib/fleetflash`` only in tests."""

    def __init__(self, root: Path = Path(STATE)):
        self.root = root
        self.reserve = Reserve(root / "reserve")

    def agent(self, sha256: str) -> Path:
        return self.root / "agent" / f"{sha256}.pyz"

    def compiled_agent(self, sha256: str) -> Path:
        return self.root / "agent" / f"{sha256}.{sys.implementation.cache_tag}.zip"

    def image(self, sha256: str) -> Path:
        return self.root / "images" / f"{sha256}.bin"

    def read_image(self, sha256: str) -> bytes:
        """Return an image's bytes; raises ``StoreError`` when they are not those that the hash names."""
        path = self.image(sha256)
        found = disk.sha256_file(path)
        if found != sha256:
            raise StoreError(f"{path}: expected sha256 {sha256}, found {found or 'no file'}")
        return path.read_bytes()

    def transaction_directory(self, transaction_id: str) -> Path:
        return self.root / "transactions" / transaction_id

    def journal(self, transaction_id: str) -> Journal:
        return Journal(self.transaction_directory(transaction_id) / "journal.jsonl", self.reserve)

    def write_transaction(self, transaction: "Transaction") -> None:
        directory = self.transaction_directory(transaction.id)
        # Counted by the host: the clocks of two controllers, or of a host that boots without one, can't order them.
        disk.write_json(directory / "sequence.json", 1 + max(self._sequences().values(), default=0))
        disk.write_json(directory / "transaction.json", to_json(transaction))

    def read_transaction(self, transaction_id: str) -> "Transaction":
        from fleetflash.agent.schema import Transaction

        path = self.transaction_directory(transaction_id) / "transaction.json"
        value = disk.read_json(path)
        if value is None:
            raise StoreError(f"{path}: missing or damaged")
        try:
            return from_json(Transaction, value)
        except SchemaError as error:
            raise StoreError(f"{path}: {error}") from error

    def controller(self, transaction_id: str) -> str:
        """Return who started a transaction, or an empty string."""
        value = disk.read_json(self.transaction_directory(transaction_id) / "transaction.json")
        return str(value.get("controller", "")) if isinstance(value, dict) else ""

    def forget_transaction(self, transaction_id: str) -> None:
        """Remove a transaction that was never started, so that nobody takes it for one that died."""
        directory = self.transaction_directory(transaction_id)
        for path in [directory / "transaction.json", *directory.iterdir()]:
            disk.remove(path)
        directory.rmdir()

    def newest_transaction(self) -> Optional[str]:
        sequences = self._sequences()
        return max(sequences, key=lambda name: (sequences[name], name)) if sequences else None

    def unfinished(self) -> List[str]:
        """Return the transactions that nobody has brought to an end, oldest first."""
        sequences = self._sequences()
        names = sorted(sequences, key=lambda name: (sequences[name], name))
        return [name for name in names if self.read_outcome(name) is None]

    def _sequences(self) -> Dict[str, int]:
        """Return every transaction with its place in the host's order."""
        found = {}
        for path in self.root.glob("transactions/*/transaction.json"):
            sequence = disk.read_json(path.parent / "sequence.json")
            found[path.parent.name] = sequence if isinstance(sequence, int) else 0
        return found

    def outcome_path(self, transaction_id: str) -> Path:
        return self.transaction_directory(transaction_id) / "outcome.json"

    def write_outcome(self, transaction_id: str, outcome: Dict[str, Any]) -> None:
        self._write(self.outcome_path(transaction_id), outcome)

    def read_outcome(self, transaction_id: str) -> Optional[Dict[str, Any]]:
        value = disk.read_json(self.outcome_path(transaction_id))
        return value if isinstance(value, dict) else None

    def mark_reported(self, transaction_id: str) -> None:
        """Remember that a controller has seen this transaction's outcome."""
        disk.write_file(self.transaction_directory(transaction_id) / "reported", b"")

    def is_reported(self, transaction_id: str) -> bool:
        return (self.transaction_directory(transaction_id) / "reported").exists()

    def ledger(self, board: str) -> Optional[LedgerEntry]:
        value = disk.read_json(self.root / "boards" / f"{board}.json")
        if value is None:
            return None
        try:
            return from_json(LedgerEntry, value)
        except SchemaError:
            return None

    def write_ledger(self, board: str, entry: LedgerEntry) -> None:
        self._write(self.root / "boards" / f"{board}.json", to_json(entry))

    def attention(self) -> Dict[str, str]:
        """Return board name → what a person has to do."""
        found = {}
        for path in self.root.glob("attention/*.json"):
            value = disk.read_json(path)
            found[path.stem] = value.get("detail", "") if isinstance(value, dict) else "unknown"
        return found

    def write_attention(self, board: str, detail: str) -> None:
        self._write(self.root / "attention" / f"{board}.json", {"detail": detail, "since": time.time()})

    def _write(self, path: Path, value: Any) -> None:
        self.reserve.spend(lambda: disk.write_json(path, value))

    def clear_attention(self, board: str) -> None:
        disk.remove(self.root / "attention" / f"{board}.json")

    def put_damaged_aside(self, path: Path) -> None:
        """Keep what is no list: nobody knows what it named, and while it lies there, no image is forgotten."""
        if path.exists() and not isinstance(disk.read_json(path), list):
            os.replace(str(path), str(path.with_name(f"{path.stem}.damaged-{int(time.time())}.json")))

    def prune(self) -> None:
        """Forget the oldest transactions that ended, and images that nothing names.

        What names images: boards, backups, lineages, holds and the transactions that are kept. While one of those
        can't be read, no image is forgotten.
        """
        sequences = self._sequences()
        ended = [name for name in sorted(sequences, key=lambda n: sequences[n]) if self.read_outcome(name) is not None]
        for name in ended[:-KEPT_TRANSACTIONS]:
            for path in self.transaction_directory(name).iterdir():
                path.unlink()
            self.transaction_directory(name).rmdir()
        named: Set[str] = set()
        damaged = []
        keepers = [*self.root.glob("transactions/*/transaction.json"), *self.root.glob("boards/*.json")]
        keepers += [*self.root.glob("lineage/*.json"), *self.root.glob("holds/*.json")]
        for path in [*keepers, *self.root.glob("backups/*.json")]:
            content = disk.read_json(path)
            named.update(_image_hashes(content))
            damaged += [] if content is not None else [str(path)]
        if damaged:
            print(f"no image is forgotten while {', '.join(damaged)} can't be read", file=sys.stderr)
        for image in self.root.glob("images/*.bin") if not damaged else ():
            if image.stem not in named:
                disk.remove(image)
        for unfinished in self.root.glob("images/.*.tmp"):
            if time.time() - unfinished.stat().st_mtime > UNFINISHED_SECONDS:
                disk.remove(unfinished)


def _image_hashes(value: Any) -> Iterator[str]:
    """Yield every string below ``value`` that could name an image: 64 hexadecimal digits."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _image_hashes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _image_hashes(item)
    elif isinstance(value, str) and len(value) == 64:
        yield value
