"""Erasing and programming as a bootloader does it: piece by piece, each in its own time, until power fails."""

from collections.abc import Iterable

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.script import Script, Steps, Verdict, Wait


class FlashScript(Script):
    """A program that owns the chip's flash."""

    def __init__(self, circuit: Circuit, started: float, flash: CodeFlash) -> None:
        self.flash = flash
        super().__init__(circuit, started)

    def erase(self, verdict: Verdict, pages: Iterable[tuple[int, int, float]]) -> Steps[None]:
        """Erase pages, given as (offset, length, seconds), one after the other."""
        self.circuit.counters.erases += 1
        for offset, length, seconds in pages:
            cut = verdict.cut
            if cut is not None and offset <= cut < offset + length:
                self.flash.erase(offset, cut - offset)
                yield from self.lose_power()
            self.flash.erase(offset, length)
            yield Wait(seconds)

    def program(self, verdict: Verdict, offset: int, data: bytes, seconds: float) -> Steps[None]:
        """Clear the bits that are 0 in ``data``, whatever was there before."""
        self.circuit.counters.programs += 1
        data = verdict.spoil(offset, data)
        cut = verdict.cut
        if cut is not None and offset <= cut < offset + len(data):
            self.flash.clear_bits(offset, data[: cut - offset])
            yield from self.lose_power()
        self.flash.clear_bits(offset, data)
        yield Wait(seconds)
