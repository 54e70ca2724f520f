"""An image held against a board: does the board run it already, and does it fit the board's flash?"""

from fleetflash.agent.schema import API, BoardFacts, Firmware
from fleetflash.boards import PROGRAMMERS, Board
from fleetflash.firmware.artifact import Artifact, EspFacts, KlipperFacts


def is_current(facts: BoardFacts, wanted: Artifact) -> bool:
    """Whether running version, constants and the ledger's image all say that the board has ``wanted`` already."""
    written = facts.ledger.image_sha256 if facts.ledger else ""
    if facts.firmware.source == API:
        # It tells a version, and no more.
        return facts.firmware.version == wanted.version and written in ("", wanted.image_sha256)
    if facts.firmware.source == "unasked" or (wanted.klipper is None and not facts.firmware.version):
        # Nobody could ask, or a vendor's firmware says nothing: the ledger must do.
        return written == wanted.image_sha256
    if wanted.klipper is None:
        return False
    return runs(facts.firmware, wanted.klipper) and written in ("", wanted.image_sha256)


def runs(firmware: Firmware, image: KlipperFacts) -> bool:
    """Whether a board's own account of its firmware is that of an image. What klippy doesn't tell isn't compared."""
    if not firmware.version or firmware.version != image.version:
        return False
    if firmware.build_versions and firmware.build_versions != image.build_versions:
        return False
    return all(firmware.constants.get(name, value) == value for name, value in image.constants.items())


def misfit(artifact: Artifact, board: Board) -> str:
    """A bootloader writes one image, from where the board's application begins; that of an ESP chip a whole layout."""
    if PROGRAMMERS[board.programmer].parts:
        if artifact.esp is None:
            return f"{artifact} is no image for {board.programmer}; register it for this chip"
        return _lost_settings(artifact, artifact.esp, board)
    if len(artifact.files) != 1:
        return f"{artifact} has several files; {board.programmer} writes one image"
    offset = artifact.files[0].offset
    if offset != board.flash_offset:
        return (
            f"{artifact} belongs at offset {offset:#x} in the flash, but the board's application begins at "
            f"{board.flash_offset:#x}; correct flash_offset, or give an image that was built for it"
        )
    return ""


def _lost_settings(artifact: Artifact, facts: EspFacts, board: Board) -> str:
    """Say which partitions an image would overwrite that the board is to keep; empty when there are none."""
    kept = [*facts.settings, *(name for name in facts.filesystems if name in board.keep)]
    lost = [name for name in kept if name not in board.erase]
    if not lost:
        return ""
    return (
        f"{artifact} overwrites {' and '.join(lost)}, where the firmware keeps what it has stored; register the "
        f"build's flasher_args.json instead of one file, or, to lose that, set erase = {lost!r} for this board"
    )
