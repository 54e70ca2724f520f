"""Brings a host to rest after an interruption, and says what was found. Nothing new is written to any board."""

import time
from typing import Any, Callable, Dict, List

from fleetflash.agent import disk, guard, leftovers
from fleetflash.agent.leftovers import FILE, TRANSACTION, Leftover
from fleetflash.agent.schema import UNIT
from fleetflash.agent.store import Store

#: The settling of a transaction that has its outcome only takes the guard down and starts Klipper, in seconds.
LOWER_SECONDS = 60.0
POLL_INTERVAL = 0.1
#: Where its unit writes.
UNIT_LOG = f"journalctl -u {UNIT}"
#: Results of a board that somebody has to look at.
BAD = ("failed", "needs-attention")


class Recovery:
    """``settle``: brings unfinished transactions to rest; returns why it can't, or an empty string.

    ``lower``: starts the settling of the newest transaction, which is over.
    """

    def __init__(self, store: Store, settle: Callable[[], str], lower: Callable[[], str]):
        self.store = store
        self.settle = settle
        self.lower = lower

    def run(self) -> List[Dict[str, Any]]:
        """Return, for each thing that was found, ``found``, ``done`` and whether that is ``well``."""
        if not guard.is_idle():
            newest = self.store.newest_transaction() or "unknown"
            return [_item(f"transaction {newest} is running", "left alone: it finishes by itself", True)]
        told = []
        unfinished = [left for left in leftovers.find(self.store, guard.is_idle()) if left.kind == TRANSACTION]
        if unfinished:
            problem = self.settle()
            told += [self._outcome(left, problem) for left in unfinished]
        rest = leftovers.find(self.store, guard.is_idle())
        guards = [left for left in rest if left.kind not in (TRANSACTION, FILE)]
        if guards:
            problem = self.lower() or self._wait()
            told += [_item(str(left), problem or "cleared away", not problem) for left in guards]
        for left in rest:
            if left.kind == FILE:
                self._remove(left)
                told.append(_item(str(left), "removed", True))
        return told

    def _outcome(self, left: Leftover, problem: str) -> Dict[str, Any]:
        outcome = self.store.read_outcome(left.name)
        if outcome is None:
            return _item(str(left), problem or f"could not be brought to rest; see {UNIT_LOG}", False)
        self.store.mark_reported(left.name)
        results = {name: str(board.get("result", "")) for name, board in dict(outcome.get("boards", {})).items()}
        boards = ", ".join(f"{name} {result}" for name, result in sorted(results.items())) or "no board"
        word = str(outcome.get("outcome", ""))
        detail = f": {outcome['detail']}" if outcome.get("detail") else ""
        well = word != "unknown" and not any(result in BAD for result in results.values())
        return _item(str(left), f"{word} ({boards}){detail}", well)

    def _wait(self) -> str:
        deadline = time.monotonic() + LOWER_SECONDS
        while not guard.is_idle():
            if time.monotonic() > deadline:
                return f"does not come to rest; see {UNIT_LOG}"
            time.sleep(POLL_INTERVAL)
        return ""

    def _remove(self, left: Leftover) -> None:
        disk.remove(self.store.root / left.name)


def _item(found: str, done: str, well: bool) -> Dict[str, Any]:
    return {"found": found, "done": done, "well": well}
