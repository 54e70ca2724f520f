"""How Katapult writes blocks to flash, per family of chips; its errors are one answer, "command error"."""

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.flash_work import FlashScript
from fleetflash.lab.boards.katapult_chips import KatapultChip
from fleetflash.lab.boards.script import Steps, Verdict

BLOCK = 64  # CONFIG_BLOCK_SIZE
PAGE = 256  # what an RP2040's flash chip programs at once


class KatapultFlash(FlashScript):
    """Offsets count from the beginning of flash."""

    def __init__(self, circuit: Circuit, started: float, chip: KatapultChip, flash: CodeFlash) -> None:
        super().__init__(circuit, started, flash)
        self.chip = chip
        self.pages_written = 0
        self._buffer_start: int | None = None
        self._page = bytearray()

    def write_block(self, verdict: Verdict, offset: int, data: bytes) -> Steps[bool]:
        """Whether the block was accepted."""
        if offset % BLOCK or not 0 <= offset <= self.chip.flash_size - BLOCK:
            return False
        if self.chip.buffered:
            return (yield from self._collect(verdict, offset, data))
        return (yield from self._write_through(verdict, offset, data))

    def complete(self, verdict: Verdict) -> Steps[int]:
        """Write what is left in RAM; the number of pages written since the reset."""
        if self.chip.buffered:
            yield from self._flush(verdict)
        return self.pages_written

    def _write_through(self, verdict: Verdict, offset: int, data: bytes) -> Steps[bool]:
        """src/stm32/flash.c: the first block of a page erases it; one that is there already is taken as sent again."""
        start, length, seconds = self.chip.page(offset)
        there = self.flash.read(offset, BLOCK) == data
        if offset == start:
            if not self._erased(start, length):
                if there and self._erased(start + BLOCK, length - BLOCK):
                    return True
                yield from self.erase(Verdict(), [(start, length, seconds)])
            self.pages_written += 1
        elif not self._erased(offset, BLOCK):
            return there
        yield from self.program(verdict, offset, data, self.chip.program_seconds * BLOCK)
        return self.flash.read(offset, BLOCK) == data

    def _collect(self, verdict: Verdict, offset: int, data: bytes) -> Steps[bool]:
        """src/rp2040/flash.c: a page goes to flash when a block of another one comes, or at the end."""
        start = offset // PAGE * PAGE
        if self._buffer_start != start:
            yield from self._flush(Verdict())
            self._buffer_start = start
            self._page = bytearray(b"\xff" * PAGE)
        self._page[offset - start : offset - start + BLOCK] = verdict.spoil(offset, data)
        cut = verdict.cut
        if cut is not None:
            # What is in RAM is lost.
            yield from self.lose_power()
        return True

    def _flush(self, verdict: Verdict) -> Steps[None]:
        if self._buffer_start is None:
            return
        start, self._buffer_start = self._buffer_start, None
        sector, length, seconds = self.chip.page(start)
        if start == sector:
            yield from self.erase(Verdict(), [(sector, length, seconds)])
        yield from self.program(verdict, start, bytes(self._page), self.chip.program_seconds * PAGE)
        self.pages_written += 1

    def _erased(self, offset: int, length: int) -> bool:
        return self.flash.read(offset, length) == b"\xff" * length
