"""What a transaction that died may have left on a host, found without changing anything and without root."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from fleetflash.agent import guard
from fleetflash.agent.store import Store, StoreError

#: What a file is called while it is written (``disk.write_file``): its name, and the process that writes it.
_UNFINISHED_FILE = re.compile(r"\..+\.(\d+)\.tmp")

#: A transaction without an outcome; the guard of one that ended; Klipper that one has stopped; a file half written.
TRANSACTION, GUARD, SERVICE, FILE = "transaction", "guard", "service", "file"


@dataclass(frozen=True)
class Leftover:
    """``name``: the transaction, the unit or the file. ``detail``: what it means, in words."""

    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}"


def find(store: Store, idle: bool) -> List[Leftover]:
    """Return what is left, in the order in which it is settled; nothing unless ``idle``, see ``guard.is_idle``."""
    if not idle:
        return []
    unfinished = [Leftover(TRANSACTION, name, _story(store, name)) for name in store.unfinished()]
    # The guard belongs to a transaction that is settled first.
    rest = [] if unfinished else [*_guard(), *_service(store)]
    return [*unfinished, *rest, *_files(store)]


def _story(store: Store, transaction_id: str) -> str:
    """Say how far a transaction has come."""
    entries = store.journal(transaction_id).read()
    if not entries:
        return "was handed over and never began"
    last = entries[-1]
    board = f" of {last['board']}" if "board" in last else ""
    return f"was interrupted after the step {last['step']}{board}"


def _guard() -> Iterator[Leftover]:
    if guard.BUSY.exists():
        yield Leftover(GUARD, str(guard.BUSY), "keeps Klipper from being started")
    if guard.SETTLE_UNIT.exists():
        yield Leftover(GUARD, guard.SETTLE_UNIT.name, "waits for the next boot")


def _service(store: Store) -> Iterator[Leftover]:
    newest = store.newest_transaction()
    if newest is None or not guard.STOPPED.exists():
        return
    try:
        transaction = store.read_transaction(newest)
    except StoreError:
        return
    if transaction.service and transaction.was_active and guard.is_kept_stopped(transaction.service):
        yield Leftover(SERVICE, transaction.service, f"was stopped by transaction {newest} and not started again")


def _files(store: Store) -> Iterator[Leftover]:
    """Yield files whose writer is gone, half-uploaded images above all."""
    for path in sorted(store.root.glob("**/.*.tmp")):
        found = _UNFINISHED_FILE.fullmatch(path.name)
        if found and not Path("/proc", found[1]).exists():
            yield Leftover(FILE, os.fspath(path), "was not written to its end")
