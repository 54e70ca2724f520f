"""The bootloader in an STM32's system memory, over its USART.

Source: AN3155, "USART protocol used in the STM32 bootloader" (sections are given at each command); AN2606 for what
depends on the chip. Not documented there and chosen here: a first byte that is not 0x7F leaves the bootloader at a
rate that nobody uses, and a programmed half-word that the flash refused is not reported: verifying finds it.
"""

import struct
from collections.abc import Callable
from functools import reduce

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.flash_work import FlashScript
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.script import Steps, Verdict, Wait
from fleetflash.lab.boards.stm32_chips import FLASH_BASE, Stm32
from fleetflash.lab.boards.stm32_memory import Stm32Memory, covers
from fleetflash.lab.boards.stm32_options import Stm32Options

ACK, NACK = b"\x79", b"\x1f"
SYNC = 0x7F
FASTEST = 115200  # AN3155, 2.2
GET, GET_VERSION, GET_ID, READ, GO, WRITE, ERASE, EXTENDED_ERASE = 0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x43, 0x44
WRITE_PROTECT, WRITE_UNPROTECT, READOUT_PROTECT, READOUT_UNPROTECT = 0x63, 0x73, 0x82, 0x92
#: What a chip answers to while its flash may not be read out.
ALWAYS = (GET, GET_VERSION, GET_ID, READOUT_UNPROTECT)
GLOBAL_ERASE, MASS_ERASE, FIRST_SPECIAL_ERASE = 0xFF, 0xFFFF, 0xFFF0
OPTION_SECONDS = 0.02


class Stm32Rom(FlashScript):
    """One run of the bootloader, until it is left by ``go(address, at)`` or by a reset."""

    parity = Parity.EVEN
    fifo = 1

    def __init__(
        self,
        circuit: Circuit,
        started: float,
        chip: Stm32,
        flash: CodeFlash,
        options: Stm32Options,
        memory: Stm32Memory,
        go: Callable[[int, float], None],
    ) -> None:
        super().__init__(circuit, started, flash)
        self._chip = chip
        self._options = options
        self._memory = memory
        self._go = go
        self._heard = 0
        erase = EXTENDED_ERASE if chip.extended else ERASE
        self._commands: dict[int, Callable[[], Steps[None]]] = {
            GET: self._get,
            GET_VERSION: self._get_version,
            GET_ID: self._get_id,
            READ: self._read_memory,
            GO: self._go_to,
            WRITE: self._write_memory,
            erase: self._extended_erase if chip.extended else self._erase,
            WRITE_PROTECT: self._write_protect,
            WRITE_UNPROTECT: self._write_unprotect,
            READOUT_PROTECT: self._readout_protect,
            READOUT_UNPROTECT: self._readout_unprotect,
        }

    def hears(self, baud: int) -> bool:
        self._heard = baud
        return super().hears(baud)

    def main(self) -> Steps[None]:
        """AN3155, section 1: 0x7F sets the rate, then commands come with their complement."""
        first = yield from self.byte()
        self.baud = self._heard
        if first != SYNC or self.baud > FASTEST:
            self.circuit.log(f"rate not detected: 0x{first:02x} at {self.baud}")
            return
        verdict = yield from self.obey("baud")
        self.answer(verdict, ACK, self._status(verdict))
        while True:
            code, complement = yield from self.read(2)
            command = self._commands.get(code)
            if code ^ complement != 0xFF or command is None or (self._options.level and code not in ALWAYS):
                self.send(NACK)
                continue
            yield from command()

    # Identity

    def _get(self) -> Steps[None]:
        """Section 3.1: how many bytes follow, less one; the protocol's version; the commands."""
        codes = bytes(self._commands)
        yield from self._identity(bytes([len(codes), self._chip.version]) + codes)

    def _get_version(self) -> Steps[None]:
        """Section 3.2: the version and two bytes that are 0."""
        yield from self._identity(bytes([self._chip.version, 0, 0]))

    def _get_id(self) -> Steps[None]:
        """Section 3.3: the product id, two bytes, most significant first."""
        yield from self._identity(struct.pack(">BH", 1, self._chip.product_id))

    def _identity(self, data: bytes) -> Steps[None]:
        verdict = yield from self.obey("identify")
        self.answer(verdict, ACK + data + ACK, self._status(verdict))

    # Memory

    def _address(self) -> Steps[int | None]:
        """Four bytes, most significant first, and their XOR (section 3.4); None when that is wrong."""
        self.send(ACK)
        raw = yield from self.read(5)
        return None if checksum(raw) else int(struct.unpack(">I", raw[:4])[0])

    def _read_memory(self) -> Steps[None]:
        """Section 3.4: address, then the number of bytes less one and its complement."""
        address = yield from self._address()
        if address is None or self._memory.read(address, 1) is None:
            self.send(NACK)
            return
        self.send(ACK)
        count, complement = yield from self.read(2)
        data = self._memory.read(address, count + 1)
        if count ^ complement != 0xFF or data is None:
            self.send(NACK)
            return
        verdict = yield from self.obey("read", address - FLASH_BASE, len(data))
        self.answer(verdict, ACK + data, self._status(verdict))

    def _go_to(self) -> Steps[None]:
        """Section 3.5: the stack pointer is read at the address, the program starts at what follows it."""
        address = yield from self._address()
        if address is None or not (self._in_flash(address, 8) or covers(self._memory.ram_range, address, 8)):
            self.send(NACK)
            return
        verdict = yield from self.obey("end")
        self.answer(verdict, ACK, self._status(verdict))
        if verdict.executes:
            self._go(address, self.now)

    def _write_memory(self) -> Steps[None]:
        """Section 3.6: address, then the number of bytes less one, the bytes, and the XOR of all of them."""
        address = yield from self._address()
        if address is None or self._memory.read(address, 1) is None or covers(self._chip.system, address):
            self.send(NACK)
            return
        self.send(ACK)
        head = yield from self.read(1)
        rest = yield from self.read(head[0] + 2)
        data = rest[:-1]
        if checksum(head + rest) or len(data) % 4 or address % 4 or self._memory.read(address, len(data)) is None:
            self.send(NACK)
            return
        verdict = yield from self.obey("program", address - FLASH_BASE, len(data))
        if verdict.executes:
            yield from self._write(verdict, address, data)
        self.answer(verdict, ACK, self._status(verdict), spoils_data=True)
        if verdict.executes and covers(self._memory.option_range, address):
            self.circuit.software_reset(self.now)

    def _write(self, verdict: Verdict, address: int, data: bytes) -> Steps[None]:
        if self._in_flash(address):
            offset = address - FLASH_BASE
            yield from self.program(
                verdict, offset, self._accepted(offset, data), self._chip.program_seconds * len(data)
            )
        elif covers(self._memory.ram_range, address):
            self._memory.write_ram(address, data)
        else:
            start = address - self._memory.option_range.start
            raw = self._options.raw
            self._options.store(raw[:start] + data + raw[start + len(data) :])
            yield Wait(OPTION_SECONDS)

    def _accepted(self, offset: int, data: bytes) -> bytes:
        """What the flash lets pass: FF where it stays as it is.

        Nothing on write-protected pages, without an error (section 3.6, note). An STM32F1 takes a half-word only over
        an erased one, or 0000 over anything (PM0075, 2.3.3).
        """
        accepted = bytearray(data)
        before = self.flash.read(offset, len(data))
        for at in range(0, len(data), 2):
            half = slice(at, at + 2)
            over = self._chip.half_words and before[half] != b"\xff\xff" and data[half] != b"\0\0"
            if over or self._options.write_protected(self._chip.page_at(offset + at)):
                accepted[half] = b"\xff\xff"
        return bytes(accepted)

    # Erasing

    def _erase(self) -> Steps[None]:
        """Section 3.7: FF and 00 for everything; or the number of pages less one, the pages, the XOR of all."""
        self.send(ACK)
        (count,) = head = yield from self.read(1)
        rest = yield from self.read(1 if count == GLOBAL_ERASE else count + 2)
        if count == GLOBAL_ERASE:
            yield from self._erase_pages(None if rest == b"\x00" else [-1])
        else:
            yield from self._erase_pages([-1] if checksum(head + rest) else list(rest[:-1]))

    def _extended_erase(self) -> Steps[None]:
        """Section 3.8: the same with two bytes for each number; these chips have one bank, so no bank erase."""
        self.send(ACK)
        head = yield from self.read(2)
        (count,) = struct.unpack(">H", head)
        if count >= FIRST_SPECIAL_ERASE:
            rest = yield from self.read(1)
            yield from self._erase_pages(None if count == MASS_ERASE and not checksum(head + rest) else [-1])
            return
        rest = yield from self.read(2 * (count + 1) + 1)
        pages = list(struct.unpack(f">{count + 1}H", rest[:-1]))
        yield from self._erase_pages([-1] if checksum(head + rest) else pages)

    def _erase_pages(self, numbers: list[int] | None) -> Steps[None]:
        """Erase these pages, or all of them at once; write-protected ones stay, without an error (section 3.7)."""
        if numbers is None:
            pages = [(0, self._chip.flash_size, self._chip.mass_erase_seconds)]
            pages = [] if self._options.any_write_protected else pages
        elif not all(0 <= number < len(self._chip.pages) for number in numbers):
            self.send(NACK)
            return
        else:
            pages = [self._chip.page(number) for number in numbers if not self._options.write_protected(number)]
        start = min((offset for offset, _, _ in pages), default=0)
        end = max((offset + length for offset, length, _ in pages), default=0)
        verdict = yield from self.obey("erase", start, end - start)
        if verdict.executes:
            yield from self.erase(verdict, pages)
        self.answer(verdict, ACK, self._status(verdict))

    # Protection; every change ends with a system reset

    def _write_protect(self) -> Steps[None]:
        """Section 3.9: the number of sectors less one, the sectors, the XOR of all; they replace those before."""
        self.send(ACK)
        head = yield from self.read(1)
        rest = yield from self.read(head[0] + 2)
        if checksum(head + rest) or max(rest[:-1]) >= self._options.bits:
            self.send(NACK)
            return
        yield from self._protect(lambda: self._options.protect_writing(set(rest[:-1])))

    def _write_unprotect(self) -> Steps[None]:
        """Section 3.10."""
        self.send(ACK)
        yield from self._protect(lambda: self._options.protect_writing(set()))

    def _readout_protect(self) -> Steps[None]:
        """Section 3.11."""
        self.send(ACK)
        yield from self._protect(lambda: self._options.protect_reading(True))

    def _readout_unprotect(self) -> Steps[None]:
        """Section 3.12: the whole flash is erased before the protection goes. Level 2 never goes."""
        if self._options.level == 2:
            self.send(NACK)
            return
        self.send(ACK)
        verdict = yield from self.obey("protect")
        if verdict.executes:
            self.circuit.log("protection removed: mass erase")
            yield from self.erase(verdict, [(0, self._chip.flash_size, self._chip.mass_erase_seconds)])
        yield from self._protect(lambda: self._options.protect_reading(False), verdict)

    def _protect(self, change: Callable[[], None], verdict: Verdict | None = None) -> Steps[None]:
        verdict = verdict or (yield from self.obey("protect"))
        if verdict.executes:
            change()
            yield Wait(OPTION_SECONDS)
        self.answer(verdict, ACK, self._status(verdict))
        if verdict.executes:
            self.circuit.software_reset(self.now)

    def _in_flash(self, address: int, length: int = 1) -> bool:
        return covers(self._memory.flash_range, address, length)

    def _status(self, verdict: Verdict) -> bytes:
        return bytes([verdict.fault.status]) if verdict.fault else NACK


def checksum(data: bytes) -> int:
    """The XOR of all bytes; 0 when the last one is the checksum of the others."""
    return reduce(lambda one, other: one ^ other, data, 0)
