"""A NOR flash chip in a file: programming clears bits, erasing sets them 4 KiB at a time.

Every erase and program reaches the file at once, so a killed board stays half-written. Addresses wrap at the chip's
size, as its address lines do. Times are those of the datasheet of Winbond's W25Q32JV, table "AC Electrical
Characteristics", typical values.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from fleetflash.lab.boards.flash import ERASED, FlashError, open_flash

SECTOR = 0x1000
BLOCK = 0x10000
PAGE = 0x100
SECTOR_ERASE_TIME = 0.045
BLOCK_ERASE_TIME = 0.150
PAGE_PROGRAM_TIME = 0.0004
READ_TIME = 0.25 / 0x100000  # seconds per byte, with an MD5 over it

SIZES = {1 << power: power for power in range(20, 25)}  # 1 to 16 MiB; JEDEC capacity code is the power of two
BIGGEST = max(SIZES)  # what 24 address lines reach
_WINBOND, _SPI_NOR = 0xEF, 0x40


class SpiFlash:
    """The whole flash of ``size`` bytes, write-through in ``path``; created erased."""

    def __init__(self, path: Path, size: int) -> None:
        if size not in SIZES:
            raise FlashError(f"flash size {size}: expected 1, 2, 4, 8 or 16 MiB in bytes")
        self.size = size
        self.generation = 0
        self.sectors_erased = 0
        self.bytes_written = 0
        self._fd = open_flash(path, size, f"this board has {size}; name another file or --flash-size")

    @property
    def jedec_id(self) -> int:
        """Manufacturer, type and capacity as RDID shifts them out, the first in the lowest byte."""
        return _WINBOND | _SPI_NOR << 8 | SIZES[self.size] << 16

    def read(self, address: int, length: int) -> bytes:
        address %= self.size
        data = os.pread(self._fd, min(length, self.size - address), address)
        while len(data) < length:
            data += os.pread(self._fd, min(length - len(data), self.size), 0)
        return data

    def md5(self, address: int, length: int) -> bytes:
        return hashlib.md5(self.read(address, length), usedforsecurity=False).digest()

    def erase(self, address: int, length: int) -> None:
        """Erase whole sectors; ``address`` and ``length`` are multiples of ``SECTOR``."""
        for sector in range(address, address + length, SECTOR):
            os.pwrite(self._fd, bytes([ERASED]) * SECTOR, sector % self.size)
        self.sectors_erased += length // SECTOR
        self.generation += 1

    def program(self, address: int, data: bytes) -> None:
        """Clear bits: over bytes that are not erased the result is the AND of both, and nothing says so."""
        before = self.read(address, len(data))
        both = int.from_bytes(before, "little") & int.from_bytes(data, "little")
        result = both.to_bytes(len(data), "little")
        start = address % self.size
        head = result[: self.size - start]
        os.pwrite(self._fd, head, start)
        if len(head) < len(result):
            os.pwrite(self._fd, result[len(head) :], 0)
        self.bytes_written += len(data)
        self.generation += 1


def erase_steps(start: int, end: int) -> Iterator[tuple[int, int, float]]:
    """How ``start`` to ``end`` is erased: address, length and seconds of each erase, 64 KiB where they fit."""
    address = start // SECTOR * SECTOR
    while address < end:
        block = address % BLOCK == 0 and address + BLOCK <= end
        length, seconds = (BLOCK, BLOCK_ERASE_TIME) if block else (SECTOR, SECTOR_ERASE_TIME)
        yield address, length, seconds
        address += length
