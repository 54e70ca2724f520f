"""Several pieces of one flash as one file: what an image of an ESP chip is.

A bootloader, a partition table and applications lie far apart, with what the firmware has stored for itself between
them; so they can't be one block of bytes. They are kept as a tar archive (POSIX.1-1988 ``ustar``, which every
operating system opens) with one member for each piece, named by its offset: ``0x00010000.bin``. Equal pieces make
equal archives, so that the archive's sha256 names its content.
"""

import io
import re
import tarfile
from dataclasses import dataclass
from typing import Iterable, List, Tuple

from fleetflash.agent.protocols.errors import ProtocolError

_NAME = re.compile(r"0x([0-9a-f]{8})\.bin")


class PartsError(ProtocolError):
    """These are no pieces of a flash."""


@dataclass(frozen=True)
class Part:
    """``data`` belongs at ``offset`` from the start of flash."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def pack(parts: Iterable[Part]) -> bytes:
    """Return the archive of some pieces; raises ``PartsError`` when there are none or two overlap."""
    ordered = _checked(sorted(parts, key=lambda part: part.offset))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for part in ordered:
            member = tarfile.TarInfo(f"0x{part.offset:08x}.bin")
            member.size = len(part.data)
            archive.addfile(member, io.BytesIO(part.data))
    return packed.getvalue()


def with_erased(packed: bytes, regions: Iterable[Tuple[int, int]]) -> bytes:
    """Return an archive with more pieces, which are erased flash: ``regions`` are (offset, size). As ``pack``."""
    erased = [Part(offset, b"\xff" * size) for offset, size in regions]
    return pack([*unpack(packed), *erased])


def unpack(packed: bytes) -> List[Part]:
    """Return the pieces of an archive by their offset; raises ``PartsError``."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:
            for member in archive:
                name = _NAME.fullmatch(member.name)
                # A sparse member could take any amount of memory.
                plain = member.type == tarfile.REGTYPE and 0 <= member.size <= len(packed)
                file = archive.extractfile(member) if name and plain else None
                if name is None or file is None:
                    raise PartsError(f"the image holds {member.name!r}, which is no piece of a flash; register it anew")
                found.append(Part(int(name[1], 16), file.read()))
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise PartsError(f"the image is no archive of flash pieces ({error}); register it anew") from None
    parts = _checked(sorted(found, key=lambda part: part.offset))
    # A damaged header ends an archive early, without a word. Headers are not compared: Pythons differ in how they fill
    # the fields that a plain file does not need.
    end = sum(tarfile.BLOCKSIZE * (1 - -len(part.data) // tarfile.BLOCKSIZE) for part in parts)
    whole = -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    if len(packed) != whole or packed[end:].strip(b"\0"):
        raise PartsError("the image holds something beside its flash pieces, or they are damaged; register it anew")
    return parts


def _checked(parts: List[Part]) -> List[Part]:
    if not parts:
        raise PartsError("an image needs at least one piece of flash")
    end = 0
    for part in parts:
        if not part.data:
            raise PartsError(f"the piece at {part.offset:#x} is empty")
        if part.offset < end:
            raise PartsError(f"the piece at {part.offset:#x} overlaps the one before it, which ends at {end:#x}")
        end = part.end
    return parts
