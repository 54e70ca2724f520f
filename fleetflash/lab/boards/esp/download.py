"""Flash download: FLASH_BEGIN … FLASH_DATA … FLASH_END, plain or deflated ("Serial Protocol", "Writing Data")."""

import zlib

from fleetflash.lab.boards.esp.circuit import Steps
from fleetflash.lab.boards.esp.spi_flash import PAGE, PAGE_PROGRAM_TIME, SECTOR, SpiFlash, erase_steps

FLIPPED = 0x10  # the bit that a fault turns over


class Download:
    """One region being written, from its first byte to its last.

    The ROM erases the region before the first byte (``erase``); a stub erases just ahead of what it writes.
    """

    def __init__(self, flash: SpiFlash, offset: int, size: int, *, compressed: bool, erase_ahead: bool) -> None:
        self._flash = flash
        self._start = offset
        self._end = offset + size
        self._next = offset
        self._erased = offset // SECTOR * SECTOR
        self._erase_ahead = erase_ahead
        self._inflate = zlib.decompressobj() if compressed else None
        self.flip_at: int | None = None

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self._next

    @property
    def remaining(self) -> int:
        """How many bytes of the region have not been written."""
        return self._end - self._next

    def length_of(self, payload: bytes) -> int:
        """How many bytes of flash a payload is for; nothing changes."""
        if self._inflate is None:
            return len(payload)
        try:
            return len(self._inflate.copy().decompress(payload))
        except zlib.error:
            return 0

    def unpack(self, payload: bytes) -> bytes:
        """What a payload writes; raises ``zlib.error``."""
        return payload if self._inflate is None else self._inflate.decompress(payload)

    def erase(self, end: int | None = None) -> Steps:
        """Erase the region, or as much of it as ends before ``end``."""
        for address, length, seconds in erase_steps(self._start, self._end):
            if end is not None and address + length > end:
                return
            yield seconds
            self._flash.erase(address, length)

    def write(self, data: bytes) -> Steps:
        """Program the next bytes, a sector at a time."""
        while data:
            piece = data[: SECTOR - self._next % SECTOR]
            data = data[len(piece) :]
            yield from self._erase_up_to(self._next + len(piece))
            yield -(-len(piece) // PAGE) * PAGE_PROGRAM_TIME
            self._flash.program(self._next, self._flipped(piece))
            self._next += len(piece)

    def _erase_up_to(self, target: int) -> Steps:
        while self._erase_ahead and self._erased < target:
            # What is left decides the size: a whole block when it fits, as for a region erased at once.
            address, length, seconds = next(erase_steps(self._erased, max(self._end, target)))
            yield seconds
            self._flash.erase(address, length)
            self._erased = address + length

    def _flipped(self, piece: bytes) -> bytes:
        if self.flip_at is None or not self._next <= self.flip_at < self._next + len(piece):
            return piece
        place = self.flip_at - self._next
        self.flip_at = None
        return piece[:place] + bytes([piece[place] ^ FLIPPED]) + piece[place + 1 :]
