"""The bootloader of the Arduino Mega 2560: STK500 version 2.

Sources: Microchip's AVR068 (framing, command and status codes); Arduino's ``stk500boot.c`` for what this bootloader
makes of it: it never erases where it is told to but the next page from the beginning of flash on, with every page
it programs; chip erase answers "failed"; addresses are words for the EEPROM, too, and of the fuses it knows two.
"""

import struct
from collections.abc import Callable
from functools import reduce

from fleetflash.lab.boards.avr_chips import EEPROM_BYTE_SECONDS, Avr
from fleetflash.lab.boards.avr_flash import AvrScript
from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.script import Silence, Steps, Verdict, Wait

START, TOKEN = 0x1B, 0x0E
STATUS_OK, STATUS_FAILED = 0x00, 0xC0
SIGN_ON, SET_PARAMETER, GET_PARAMETER, LOAD_ADDRESS = 0x01, 0x02, 0x03, 0x06
ENTER, LEAVE, CHIP_ERASE, PROGRAM_FLASH, READ_FLASH, PROGRAM_EEPROM, READ_EEPROM = range(0x10, 0x17)
READ_FUSE, READ_LOCK, READ_SIGNATURE, SPI_MULTI = 0x18, 0x1A, 0x1B, 0x1D
NAMES = {
    **dict.fromkeys((SIGN_ON, SET_PARAMETER, GET_PARAMETER, ENTER, READ_SIGNATURE), "identify"),
    **dict.fromkeys((READ_FUSE, READ_LOCK, SPI_MULTI), "config"),
    **dict.fromkeys((PROGRAM_FLASH, PROGRAM_EEPROM), "program"),
    **dict.fromkeys((READ_FLASH, READ_EEPROM), "read"),
    LOAD_ADDRESS: "address",
    CHIP_ERASE: "erase",
    LEAVE: "end",
}
NAME = b"AVRISP_2"
# Hardware 0x0F, software 2.10; build number and all others are 0.
PARAMETERS = {0x90: 0x0F, 0x91: 0x02, 0x92: 0x0A}

BUFFER = 285  # bytes of a message that it has room for
FIRST_BYTE = 1.0  # seconds: about what its counter to 20000 takes, "should be about 1 second"
LATER_BYTES = 7.0  # seconds: about 8 million turns of its waiting loop
LEAVE_SECONDS = 0.05


class Overrun(Exception):
    """A message larger than the buffer has overwritten the stack: only a reset helps."""


class Stk500v2(AvrScript):
    """One run after a reset; ``leave`` jumps to the application."""

    def __init__(
        self,
        circuit: Circuit,
        started: float,
        chip: Avr,
        flash: CodeFlash,
        leave: Callable[[float], None],
        eeprom: CodeFlash,
    ) -> None:
        super().__init__(circuit, started, chip, flash, leave)
        self._eeprom = eeprom
        self._address = 0
        self._erase_address = 0
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            SIGN_ON: lambda _body: bytes([STATUS_OK, len(NAME)]) + NAME,
            GET_PARAMETER: self._get_parameter,
            LOAD_ADDRESS: self._load_address,
            CHIP_ERASE: self._chip_erase,
            READ_FLASH: self._read_flash,
            READ_EEPROM: self._read_eeprom,
            READ_FUSE: self._read_fuse,
            READ_LOCK: self._read_lock,
            READ_SIGNATURE: self._read_signature,
            SPI_MULTI: self._spi_multi,
        }
        self._programs = {PROGRAM_FLASH: self._program_flash, PROGRAM_EEPROM: self._program_eeprom}

    def main(self) -> Steps[None]:
        try:
            yield from self._messages()
        except Silence:
            self.leave(self.now)
        except Overrun:
            self.circuit.log("message larger than the buffer: the bootloader has crashed")

    def _messages(self) -> Steps[None]:
        first: int | None = yield from self.byte(FIRST_BYTE)
        while True:
            sequence, body = yield from self._message(first)
            first = None
            verdict, answer = yield from self._execute(body)
            refusal = bytes([body[0], verdict.fault.status if verdict.fault else STATUS_FAILED])
            frames = frame(sequence, answer), frame(sequence, refusal)
            self.answer(verdict, *frames, spoils_data=body[0] in self._programs)
            if body[0] == LEAVE and verdict.executes:
                yield Wait(LEAVE_SECONDS)
                raise Silence

    def _message(self, first: int | None) -> Steps[tuple[int, bytes]]:
        """The next message whose checksum is right; all else is skipped without an answer."""
        while True:
            byte = first if first is not None else (yield from self._next())
            first = None
            if byte != START:
                continue
            sequence = yield from self._next()
            high = yield from self._next()
            low = yield from self._next()
            if (yield from self._next()) != TOKEN:
                continue
            length = high << 8 | low
            if not 0 < length <= BUFFER:
                raise Overrun
            body = bytearray()
            for _ in range(length):
                body.append((yield from self._next()))
            if (yield from self._next()) == checksum(bytes([START, sequence, high, low, TOKEN]) + body):
                return sequence, bytes(body)

    def _next(self) -> Steps[int]:
        """One byte; after a long silence the application starts, if there is one."""
        while True:
            try:
                return (yield from self.byte(LATER_BYTES))
            except Silence:
                if self.flash.read(0, 2) != b"\xff\xff":
                    raise

    def _execute(self, body: bytes) -> Steps[tuple[Verdict, bytes]]:
        code = body[0]
        if code not in NAMES:
            return Verdict(), bytes([code, STATUS_FAILED])
        start, length = (self._address, self._size(body)) if NAMES[code] in ("program", "read") else (None, 0)
        verdict = yield from self.obey(NAMES[code], start, length)
        # Short messages find in the rest of the buffer what was there before; here, zeros.
        body = body.ljust(BUFFER, b"\0")
        if not verdict.executes:
            return verdict, b""
        if code in self._programs:
            yield from self._programs[code](body, verdict)
        elif answer := self._answers.get(code):
            return verdict, bytes([code]) + answer(body)
        return verdict, bytes([code, STATUS_OK])

    def _size(self, body: bytes) -> int:
        return int(struct.unpack(">H", body[1:3].ljust(2, b"\0"))[0])

    # Commands: what follows the command's code in the answer

    def _get_parameter(self, body: bytes) -> bytes:
        return bytes([STATUS_OK, PARAMETERS.get(body[1], 0)])

    def _load_address(self, body: bytes) -> bytes:
        self._address = int(struct.unpack(">I", body[1:5])[0]) << 1 & 0xFFFF_FFFF
        return bytes([STATUS_OK])

    def _chip_erase(self, _body: bytes) -> bytes:
        self._erase_address = 0
        return bytes([STATUS_FAILED])

    def _program_flash(self, body: bytes, verdict: Verdict) -> Steps[None]:
        size = self._size(body)
        if not 0 < size <= BUFFER - 10 or size % 2:
            raise Overrun
        if self._erase_address < self.chip.flash_size - 2 * self.chip.boot_size:
            yield from self.erase_page(self._erase_address)
            self._erase_address += self.chip.page
        yield from self.write_page(verdict, self._address % self.chip.flash_size, body[10 : 10 + size])
        self._address += size

    def _program_eeprom(self, body: bytes, verdict: Verdict) -> Steps[None]:
        size = self._size(body)
        if not 0 < size <= BUFFER - 10:
            raise Overrun
        for value in verdict.spoil(self._address, body[10 : 10 + size]):
            at = self._address % self.chip.eeprom_size
            self._eeprom.erase(at, 1)
            self._eeprom.clear_bits(at, bytes([value]))
            self._address += 1
            yield Wait(EEPROM_BYTE_SECONDS)

    def _read_flash(self, body: bytes) -> bytes:
        size = self._read_size(body)
        if size % 2:
            raise Overrun
        data = self.read_flash(self._address, size)
        self._address += size
        return bytes([STATUS_OK]) + data + bytes([STATUS_OK])

    def _read_eeprom(self, body: bytes) -> bytes:
        size = self._read_size(body)
        ring = self._eeprom.read() * 2
        start = self._address % self.chip.eeprom_size
        self._address += size
        return bytes([STATUS_OK]) + ring[start : start + size] + bytes([STATUS_OK])

    def _read_size(self, body: bytes) -> int:
        size = self._size(body)
        if not 0 < size <= BUFFER - 3:
            raise Overrun
        return size

    def _read_fuse(self, body: bytes) -> bytes:
        low = self.chip.extended_fuse if body[3] == 0x08 else self.chip.low_fuse
        return bytes([STATUS_OK, low if body[2] == 0x50 else self.chip.high_fuse, STATUS_OK])

    def _read_lock(self, _body: bytes) -> bytes:
        return bytes([STATUS_OK, self.chip.lock_bits, STATUS_OK])

    def _read_signature(self, body: bytes) -> bytes:
        return bytes([STATUS_OK, self.chip.signature[min(body[4], 2)], STATUS_OK])

    def _spi_multi(self, body: bytes) -> bytes:
        """Signature bytes, low and high fuse; 0 for everything else."""
        known = {0x30: self.chip.signature[min(body[6], 2)], 0x50: self.chip.low_fuse, 0x58: self.chip.high_fuse}
        return bytes([STATUS_OK, 0, body[4], 0, known.get(body[4], 0), STATUS_OK])


def checksum(data: bytes) -> int:
    """The XOR of everything before it (AVR068, 4.1)."""
    return reduce(lambda one, other: one ^ other, data, 0)


def frame(sequence: int, body: bytes) -> bytes:
    """Start, sequence number, length, token, body, checksum (AVR068, 4.1)."""
    head = struct.pack(">BBHB", START, sequence, len(body), TOKEN) + body
    return head + bytes([checksum(head)])
