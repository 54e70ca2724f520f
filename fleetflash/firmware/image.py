"""A firmware image read from a file: its bytes, where they belong, and the Klipper dictionary in it."""

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fleetflash.firmware.elf import read_elf
from fleetflash.firmware.errors import ImageError, NotKlipperImageError
from fleetflash.firmware.hexfile import read_hex
from fleetflash.firmware.klipper_dictionary import (
    KlipperDictionary,
    find_dictionary,
    is_dictionary,
    parse_dictionary,
)
from fleetflash.firmware.memory import MAX_SPAN

# An ELF file with debug information or a hex file is several times the image in it.
MAX_FILE_BYTES = 4 * MAX_SPAN

_HEX_RECORD = re.compile(rb"\s*:[0-9A-Fa-f]{10,}\s*[\r\n]")


class ImageFormat(StrEnum):
    """How an image is stored in its file."""

    RAW = "raw"
    HEX = "hex"
    ELF = "elf"
    DICTIONARY = "dictionary"


_SUFFIXES = {
    ".hex": ImageFormat.HEX,
    ".ihex": ImageFormat.HEX,
    ".elf": ImageFormat.ELF,
    ".dict": ImageFormat.DICTIONARY,
    ".json": ImageFormat.DICTIONARY,
}


@dataclass(frozen=True)
class Image:
    """``data`` belongs at ``base_address``: an absolute address in hex and ELF, an offset into flash for raw.

    ``dictionary`` is ``None`` when the image is not Klipper. A ``klipper.dict`` has a dictionary and no data.
    """

    name: str
    data: bytes
    base_address: int
    format: ImageFormat
    dictionary: KlipperDictionary | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def klipper(self) -> KlipperDictionary:
        """Return the dictionary, or raise ``NotKlipperImageError``."""
        if self.dictionary is None:
            raise NotKlipperImageError(
                f"{self.name}: no Klipper data dictionary in it; give the image of a Klipper build"
            )
        return self.dictionary


def load_image(path: Path | str, offset: int | None = None, program: bool = False) -> Image:
    """Read a raw, Intel hex, ELF or ``klipper.dict`` file, told apart by content.

    + offset: where in flash a raw file belongs, in bytes (default 0); the other formats say it themselves
    + program: the file itself is what is wanted, since the host runs it

    Raises ``ImageError``, naming the file: unreadable, empty, damaged, truncated, two different dictionaries.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB; this is no image for a microcontroller")
        return parse_image(path.read_bytes(), path.name, offset, program)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}; give a readable image file") from None
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from None


def parse_image(content: bytes, name: str, offset: int | None = None, program: bool = False) -> Image:
    """Like ``load_image`` for the content of a file called ``name``; errors do not name the file."""
    if not content:
        raise ImageError("the file is empty; build or fetch it again")
    kind = _sniff(content)
    if program:
        if kind is not ImageFormat.ELF or offset:
            raise ImageError("a process of the host is an ELF program at offset 0; give out/klipper.elf")
        return Image(name, content, 0, ImageFormat.RAW, _dictionary_in(content))
    expected = _SUFFIXES.get(Path(name).suffix.lower(), kind)
    if kind is not expected:
        raise ImageError(f"named like {expected} but its content is not; fetch or build it again")
    if offset is not None and kind is not ImageFormat.RAW:
        raise ImageError(f"a {kind} file says itself where it belongs; leave the offset {offset:#x} out")
    if kind is ImageFormat.DICTIONARY:
        return Image(name, b"", 0, kind, parse_dictionary(content))
    if kind is ImageFormat.RAW:
        base, data = offset or 0, content
    else:
        memory = read_elf(content) if kind is ImageFormat.ELF else read_hex(content.decode("ascii", "replace"))
        base, data = memory.base_address, memory.data
    if base < 0 or len(data) > MAX_SPAN:
        raise ImageError(f"{len(data)} bytes at {base:#x} are no image for a microcontroller; give the right file")
    return Image(name, data, base, kind, _dictionary_in(data))


def _dictionary_in(data: bytes) -> KlipperDictionary | None:
    try:
        return find_dictionary(data)
    except NotKlipperImageError:
        return None


def _sniff(content: bytes) -> ImageFormat:
    if content.startswith(b"\x7fELF"):
        return ImageFormat.ELF
    if content.startswith(b"UF2\n"):
        raise ImageError("UF2 files are not read; give the klipper.elf or klipper.bin of the same build")
    if _HEX_RECORD.match(content[:600] + b"\n"):
        return ImageFormat.HEX
    if content.lstrip()[:1] == b"{":
        try:
            if is_dictionary(json.loads(content)):
                return ImageFormat.DICTIONARY
        except (ValueError, RecursionError):
            pass
    return ImageFormat.RAW
