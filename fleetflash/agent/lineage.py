"""What each board ran, from what it runs on backwards: where a rollback to ``previous`` or ``known-good`` leads.

::

    /var/lib/fleetflash/lineage/<board>.json    [``schema.Past``, …], newest first; also of the host code

A flash puts its image in front. A rollback takes away what it has left: nothing leads forward again.
"""

import dataclasses
import time
from pathlib import Path
from typing import List, Optional

from fleetflash.agent import disk
from fleetflash.agent.as_json import SchemaError, from_json, to_json
from fleetflash.agent.observed import Image, Past
from fleetflash.agent.store import Store

#: Steps back that are kept of each board.
KEPT_STEPS = 5


def advanced(lineage: List[Past], former: Optional[Image], wanted: Past, back: bool) -> List[Past]:
    """Return the lineage once ``wanted`` was committed.

    + former: what the board ran before; ``None`` when no image of it is known
    + back: a rollback has committed it

    The same commit entered twice, as after a death, changes nothing more.
    """
    if lineage and (lineage[0].transaction, lineage[0].image) == (wanted.transaction, wanted.image):
        return lineage
    found = list(lineage)
    known = [wanted.image.sha256, *(past.image.sha256 for past in found[:1])]
    if former is not None and former.sha256 not in known:
        found.insert(0, Past(former, at=wanted.at))
    hashes = [past.image.sha256 for past in found]
    if not back:
        found = [past for past in found if past.image.sha256 != wanted.image.sha256]
    elif wanted.image.sha256 in hashes:
        found = found[hashes.index(wanted.image.sha256) + 1 :]
    else:
        found = found[1:]
    return [wanted, *found][:KEPT_STEPS]


class Lineages:
    """The lineages of a host's boards, in the agent's store."""

    def __init__(self, store: Store):
        self.store = store

    def of(self, board: str) -> List[Past]:
        """Return what a board ran, newest first, and whether its images are on the disk; what can't be read ends it."""
        found: List[Past] = []
        entries = disk.read_json(self._path(board))
        for entry in entries if isinstance(entries, list) else []:
            try:
                past = from_json(Past, entry)
            except SchemaError:
                break
            found.append(dataclasses.replace(past, on_disk=self.store.image(past.image.sha256).exists()))
        return found

    def enter(self, board: str, former: Optional[Image], wanted: Image, transaction: str, back: bool) -> None:
        """Enter a committed image, on the disk when this returns; ``former`` and ``back`` as for ``advanced``."""
        lineage = [dataclasses.replace(past, on_disk=False) for past in self.of(board)]
        after = advanced(lineage, former, Past(wanted, transaction, round(time.time(), 3)), back)
        if after != lineage:
            # What another version of the agent has entered keeps its images.
            self.store.put_damaged_aside(self._path(board))
            entries = disk.read_json(self._path(board))
            rest = entries[len(lineage) :] if isinstance(entries, list) else []
            kept = [*(to_json(past) for past in after), *rest][:KEPT_STEPS]
            self.store.reserve.spend(lambda: disk.write_json(self._path(board), kept))

    def _path(self, board: str) -> Path:
        return self.store.root / "lineage" / f"{board}.json"
