"""What a transaction writes down while it goes on: its journal, its events, its boards' results and the ledger."""

import dataclasses
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from fleetflash.agent.events import EventWriter, path_for
from fleetflash.agent.history import uids
from fleetflash.agent.protocols.programmer import Ask, Progress
from fleetflash.agent.schema import HOST_CODE, UNFINISHED, BoardTransaction, Image, LedgerEntry, Transaction
from fleetflash.agent.store import Store

COMMITTED, RESTORED, REFUSED, FAILED, NEEDS_ATTENTION = "committed", "restored", "refused", "failed", "needs-attention"

#: Without these in the journal nothing may go on; of all others the work is worth more than the record.
ESSENTIAL_STEPS = ("begin", "prepared", "guarded", "backed-up", "checkout", "writing", "power-off", "committed")


class Record:
    """``results``: board name → ``result`` and ``detail``, as they go into the outcome.

    ``settling``: the transaction has died, and no step is worth keeping a board from its way back.
    """

    def __init__(self, transaction: Transaction, store: Store):
        self.transaction = transaction
        self.store = store
        self.journal = store.journal(transaction.id)
        self.events = EventWriter(path_for(transaction.id))
        names = [HOST_CODE] * (transaction.host_code is not None) + [board.name for board in transaction.boards]
        self.results: Dict[str, Dict[str, Any]] = {name: {"result": "untouched", "detail": ""} for name in names}
        self.settling = False

    def entries(self) -> List[Dict[str, Any]]:
        """Return the journal so far."""
        return self.journal.read()

    def log(self, step: str, **details: Any) -> None:
        """Write one step down; raises ``OSError`` for a step without which nothing may go on."""
        try:
            entry = self.journal.append(step, **details)
        except OSError as error:
            if step in ESSENTIAL_STEPS and not self.settling:
                raise
            print(f"journal: {step} {details}: {error}", file=sys.stderr)
            entry = {"step": step, **details}
        self.events.write(entry)

    def ask(self, name: str) -> Ask:
        """Return how a person is asked for a gesture on a board."""

        def ask(gesture: str, seconds: float) -> None:
            self.log("hands", board=name, gesture=gesture, seconds=seconds)

        return ask

    def progress(self, name: str) -> Callable[[str], Progress]:
        """Return what gives the callback for each phase of a board's work."""

        def phase(phase_name: str) -> Progress:
            return lambda done, total: self.events.progress(name, phase_name, done, total)

        return phase

    def uid(self, board: BoardTransaction) -> str:
        """Return the unique id that the plan or the journal knows of a board, or an empty string."""
        return board.uid or uids(self.entries()).get(board.name, "")

    def enrol(self, board: BoardTransaction, uid: str) -> None:
        """Remember which board this is and where, before anything is done to it: it was met, in its bootloader.

        What the ledger says of another board, which this one replaces, goes.
        """
        known = self.store.ledger(board.name)
        if known is None or (known.uid and uid and known.uid != uid):
            self._write_ledger(board, "", "", "", uid)
        elif (uid or known.uid, board.by_path or known.by_path) != (known.uid, known.by_path):
            met = dataclasses.replace(known, uid=uid or known.uid, by_path=board.by_path or known.by_path)
            self.store.write_ledger(board.name, met)

    def enter(self, board: BoardTransaction, image: Image) -> None:
        """Enter into the host's ledger that a board runs ``image``; nothing that was latched of it is true any more."""
        self._write_ledger(board, image.artifact, image.sha256, image.version, self.uid(board))
        self.store.clear_attention(board.name)

    def enter_unfinished(self, board: BoardTransaction, way_back: Optional[Image], uid: str) -> None:
        """Enter that a board is being written; the ledger then names its way back."""
        self._write_ledger(board, way_back.artifact if way_back else "", UNFINISHED, "", uid or board.uid)

    def _write_ledger(self, board: BoardTransaction, artifact: str, sha256: str, version: str, uid: str) -> None:
        entry = LedgerEntry(
            artifact=artifact,
            image_sha256=sha256,
            version=version,
            transaction=self.transaction.id,
            chip=board.chip,
            uid=uid,
            committed_at=round(time.time(), 3),
            by_path=board.by_path,
        )
        self.store.write_ledger(board.name, entry)
