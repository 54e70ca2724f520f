"""What a build must have made: an image that exists, fits its chip, lies where it shall, and says who it is."""

from pathlib import Path

from fleetflash.build.board_type import BoardType
from fleetflash.build.errors import OutputError
from fleetflash.firmware.chips import check_image_fits
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.image import Image, load_image

DICTIONARY = "klipper.dict"
_ELF = "klipper.elf"


def load_output(directory: Path, name: str, flash_offset: int) -> Image:
    """Return the image ``name`` of a build's output; raises ``OutputError``."""
    path = directory / name
    if not path.is_file():
        there = sorted(found.name for found in directory.glob("klipper.*")) if directory.is_dir() else []
        raise OutputError(f"make wrote no out/{name}, but {', '.join(there) or 'nothing'}; correct image")
    raw = not name.endswith((".elf", ".hex"))
    try:
        return load_image(path, flash_offset if raw and flash_offset else None)
    except FirmwareError as error:
        raise OutputError(f"out/{name} is no image: {error}") from None


def application_address(directory: Path) -> int:
    """Return the address that the build's ELF file is linked to."""
    return load_output(directory, _ELF, 0).base_address


def check(image: Image, address: int, board_type: BoardType, version: str) -> None:
    """Raise ``OutputError`` when an image, linked to ``address``, is not what a board type shall run as ``version``."""
    target = board_type.target
    if image.dictionary is None:
        raise OutputError(f"{image.name} has no Klipper dictionary in it; is {board_type.repository} Klipper's source?")
    if image.dictionary.version != version:
        raise OutputError(
            f"{image.name} says version {image.dictionary.version!r}, expected {version!r}; does the build change its "
            "own source, or are its tools of different versions?"
        )
    try:
        check_image_fits(image, target)
    except FirmwareError as error:
        raise OutputError(str(error)) from None
    linked = [offset for base in target.flash_bases if 0 <= (offset := address - base) < target.flash_bytes]
    if board_type.flash_offset not in linked:
        where = f"offset {linked[0]:#x} in" if linked else "outside of"
        raise OutputError(
            f"{image.name} is linked to {address:#x}, {where} the flash of {target.name}, expected flash_offset "
            f"{board_type.flash_offset:#x}; correct that, or the configuration"
        )
    if len(image.data) > target.room(board_type.flash_offset):
        raise OutputError(
            f"{image.name} has {len(image.data)} bytes, but {target.name} has room for "
            f"{target.room(board_type.flash_offset)} from {board_type.flash_offset:#x} to its bootloader or end; "
            "configure less into it"
        )


def check_dictionary(image: Image, directory: Path) -> None:
    """Raise ``OutputError`` when ``out/klipper.dict`` is not what the image says of itself."""
    beside = load_output(directory, DICTIONARY, 0)
    if image.dictionary is None or beside.klipper().raw_sha256 != image.dictionary.raw_sha256:
        raise OutputError(f"out/{DICTIONARY} and the dictionary in {image.name} differ; the build mixes two builds")
