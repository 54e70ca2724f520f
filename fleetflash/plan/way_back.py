"""What brings a board's former firmware back: the best known-good image, or reading it first."""

from collections.abc import Iterable

from fleetflash.agent.schema import API, UNFINISHED, BoardFacts
from fleetflash.boards import PROGRAMMERS, Board
from fleetflash.firmware.artifact import Artifact, ArtifactFile
from fleetflash.firmware.chips import Chip
from fleetflash.plan.image import misfit, runs

#: Where ESP-IDF's default has a partition table, and what the flash of such a chip erases at once, in bytes.
_PARTITION_TABLE, _SECTOR = 0x8000, 4096


def find_way_back(
    facts: BoardFacts, target: Chip, board: Board, artifacts: Iterable[Artifact]
) -> tuple[Artifact | None, str]:
    """Return the best known-good image and what makes it good.

    In this order: the image that the board runs (by version, build and constants), the one that a transaction committed
    on this board, a registered factory image. Only images for the place where the board's application begins count.
    """
    fitting = [artifact for artifact in artifacts if artifact.chip == target.name and not misfit(artifact, board)]
    ledger = facts.ledger.image_sha256 if facts.ledger else ""
    running = [a for a in fitting if a.klipper and runs(facts.firmware, a.klipper)]
    running.sort(key=lambda a: (a.image_sha256 != ledger, a.id))
    committed = [a for a in fitting if facts.ledger and a.id == facts.ledger.artifact and not is_another(facts)]
    factory = [a for a in fitting if "factory" in a.labels]
    # Several factory images for one chip are a guess, unless one carries the firmware's own name.
    named = [a for a in factory if a.name == board.firmware]
    # A chip of many products is read back rather than given the firmware of another one.
    factory = named or (factory if len(factory) == 1 and not PROGRAMMERS[board.programmer].parts else [])
    for found, kind in ((running, "running"), (committed, "committed"), (factory, "factory")):
        if found:
            return found[0], kind
    return None, ""


def is_another(facts: BoardFacts) -> bool:
    """Whether a gateway's API says that it runs something else than what the ledger says was written."""
    told = facts.firmware
    return told.source == API and facts.ledger is not None and told.version != facts.ledger.version


def undoes(way_back: Artifact, wanted: Artifact) -> bool:
    """Whether writing ``way_back`` brings all of a flash back that ``wanted`` overwrites.

    The parts of an ESP image lie between what the firmware keeps for itself. With the same partition table both write
    to the same partitions; with another one, an application may lie where the former firmware had its settings.
    """
    if wanted.esp is None or way_back.esp is None:
        return True
    tables = [{f.sha256 for f in image.files if f.offset == _PARTITION_TABLE} for image in (wanted, way_back)]
    if tables[0] and tables[0] == tables[1]:
        return True
    covered = {sector for file in way_back.files for sector in _sectors(file)}
    return all(sector in covered for file in wanted.files for sector in _sectors(file))


def _sectors(file: ArtifactFile) -> range:
    return range(file.offset // _SECTOR, -(-(file.offset + file.size) // _SECTOR))


def can_read_former(board: Board, facts: BoardFacts) -> bool:
    """Whether the board holds its former firmware whole, and can be read."""
    if facts.ledger and facts.ledger.image_sha256 == UNFINISHED:
        return False
    return PROGRAMMERS[board.programmer].read_back and not board.unprotect and not board.accept_no_way_back
