"""Self-programming as an AVR bootloader does it: a page is erased, filled in RAM, and written."""

from collections.abc import Callable

from fleetflash.lab.boards.avr_chips import PAGE_ERASE_SECONDS, PAGE_WRITE_SECONDS, Avr
from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.flash_work import FlashScript
from fleetflash.lab.boards.script import Steps, Verdict, Wait


class AvrScript(FlashScript):
    """A bootloader in the boot section; ``leave(at)`` is how it ends by itself."""

    baud = 115200

    def __init__(
        self, circuit: Circuit, started: float, chip: Avr, flash: CodeFlash, leave: Callable[[float], None]
    ) -> None:
        super().__init__(circuit, started, flash)
        self.chip = chip
        self.leave = leave

    def erase_page(self, address: int) -> Steps[None]:
        """Erase the page that holds this byte; nothing happens in the boot section."""
        start = address // self.chip.page * self.chip.page
        self.circuit.counters.erases += 1
        if start < self.chip.application_size:
            self.flash.erase(start, self.chip.page)
        yield Wait(PAGE_ERASE_SECONDS)

    def write_page(self, verdict: Verdict, address: int, data: bytes) -> Steps[None]:
        """Fill the page buffer from ``address`` on and write the page; addresses wrap inside the page.

        A word of the buffer that was filled stays as it is (data sheet, "Filling the temporary buffer").
        """
        start = address // self.chip.page * self.chip.page
        buffer = bytearray(b"\xff" * self.chip.page)
        filled: set[int] = set()
        for at in range(0, len(data) & ~1, 2):
            place = (address - start & ~1) + at
            place %= self.chip.page
            if place not in filled:
                filled.add(place)
                buffer[place : place + 2] = data[at : at + 2]
        if start < self.chip.application_size:
            yield from self.program(verdict, start, bytes(buffer), PAGE_WRITE_SECONDS)
        else:
            yield Wait(PAGE_WRITE_SECONDS)

    def read_flash(self, address: int, length: int) -> bytes:
        """Bytes from ``address`` on, which wraps at the end of flash."""
        size = self.chip.flash_size
        return b"".join(self.flash.read((address + at) % size, 1) for at in range(length))
