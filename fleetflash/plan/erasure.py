"""Partitions that a run is told to erase, besides writing what its boards must run. No I/O.

It is asked for one run at a time, on its command line: settings and history that an inventory had erased would be
lost at every flash.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fleetflash.agent.schema import Region
from fleetflash.boards import PROGRAMMERS, Board, BoardDataError
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.partition import Partition

#: What says it: ``--data erase_now=nvs``.
KEY = "erase_now"
_EXAMPLE = f"--data {KEY}=nvs, or {KEY}=BOARD/nvs for one board alone; several with commas between"


class ErasureError(Exception):
    """A board's partition can't be erased. One line."""


@dataclass(frozen=True)
class Erasure:
    """``asked``: (board, partition) each; an empty board means every board of the run."""

    asked: tuple[tuple[str, str], ...] = ()

    def of(self, board: str) -> tuple[str, ...]:
        """Return the names of the partitions that are to be erased on a board."""
        return tuple(dict.fromkeys(partition for name, partition in self.asked if name in ("", board)))


NOTHING = Erasure()


def read_erasure(data: Mapping[str, object], override: Mapping[str, object], boards: Collection[str]) -> Erasure:
    """Return what a run is told to erase; raises ``BoardDataError``.

    + data: all of a host's
    + override: what came from the command line (``--data``), where alone it may stand
    + boards: the names of all boards of the run's hosts
    """
    if data.get(KEY) is None:
        return NOTHING
    if KEY not in override:
        raise BoardDataError(
            f"{KEY} is for one run: in the inventory it would erase at every flash. Take it out, and give {_EXAMPLE}"
        )
    value = override[KEY]
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise BoardDataError(f"{KEY}: expected the name of a partition, found {value!r}; {_EXAMPLE}")
    asked = []
    for word in words:
        board, _, partition = word.strip().rpartition("/")
        if not partition:
            raise BoardDataError(f"{KEY}: expected BOARD/PARTITION, found {word!r}; {_EXAMPLE}")
        if board and board not in boards:
            raise BoardDataError(f"{KEY}: no host of this run has a board {board!r}; there are {_listed(boards)}")
        asked.append((board, partition))
    return Erasure(tuple(asked))


def find_regions(
    names: Sequence[str], board: Board, wanted: Artifact, partitions: Sequence[Partition]
) -> tuple[Region, ...]:
    """Return where what is to be erased lies, once ``wanted`` is written; raises ``ErasureError``.

    + partitions: of the image's own partition table
    """
    if not PROGRAMMERS[board.programmer].parts:
        raise ErasureError(
            f"{KEY} is for gateways: {board.programmer} knows no partitions. Name the board that is meant: "
            f"{KEY}=BOARD/{names[0]}"
        )
    if not partitions:
        raise ErasureError(
            f"{KEY}={names[0]}: {wanted} has no partition table, so nobody knows where that lies; register the build's "
            "flasher_args.json"
        )
    return tuple(_region(name, wanted, partitions) for name in names)


def _region(name: str, wanted: Artifact, partitions: Sequence[Partition]) -> Region:
    found = next((partition for partition in partitions if partition.name == name), None)
    if found is None:
        known = _listed([partition.name for partition in partitions if not partition.holds])
        raise ErasureError(f"{wanted} has no partition {name!r} that {KEY} could erase; it has {known}")
    if found.holds:
        raise ErasureError(
            f"{KEY}={name}: that partition holds {found.holds}, so the gateway would not start without it"
        )
    for file in wanted.files:
        if file.offset < found.end and found.offset < file.offset + file.size:
            raise ErasureError(
                f"{KEY}={name}: {wanted} writes {file.name} there, so what lies there is replaced anyway"
            )
    return Region(found.name, found.offset, found.size)


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
