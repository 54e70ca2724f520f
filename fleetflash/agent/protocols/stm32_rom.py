"""The protocol of the STM32's factory bootloader on a UART.

Source of the facts: ST AN3155, "USART protocol used in the STM32 bootloader", revision 14, whose sections are named.

- 8 data bits, **even** parity (section 1). The first byte after a reset, 7F, tells the chip the rate, up to 115200
  bit/s everywhere (section 2); it answers 79 (ACK). A chip that has its rate already takes it for half a command and,
  after the second half, answers 1F (NACK).
- A command is its code and the code's complement; every step is answered by ACK or NACK (section 3). Addresses go
  highest byte first, followed by the XOR of their bytes.
- Read Memory, Write Memory, Erase and Go are answered with NACK *at the code* while the chip is read-protected
  (sections 3.4 to 3.8), so that is how the protection is recognised. A NACK that comes later has another reason.
- Bootloaders have Erase (43, one byte a page) or Extended Erase (44, two bytes a page), never both (section 3.8).
- Lifting the read protection erases the flash, then resets the chip (section 3.12).
"""

import struct
from dataclasses import dataclass
from functools import reduce
from typing import FrozenSet, List

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, RefusedError

BAUDRATE = 115200
PARITY = "E"
INIT, ACK, NACK = 0x7F, 0x79, 0x1F
GET, GET_ID, READ, GO, WRITE = 0x00, 0x02, 0x11, 0x21, 0x31
ERASE, EXTENDED_ERASE, READOUT_UNPROTECT = 0x43, 0x44, 0x92
NAMES = {
    GET: "get",
    GET_ID: "get id",
    READ: "read memory",
    GO: "go",
    WRITE: "write memory",
    ERASE: "erase",
    EXTENDED_ERASE: "extended erase",
    READOUT_UNPROTECT: "readout unprotect",
}
#: Commands that a read-protected chip answers with NACK at their code.
GUARDED = (READ, GO, WRITE, ERASE, EXTENDED_ERASE)
#: The most that one Read Memory or Write Memory takes (sections 3.4 and 3.6).
CHUNK = 256
#: Write Memory takes whole words of 4 bytes (section 3.6); the flash of an H7 is written in words of 32.
ALIGNMENT = 32
#: One Erase takes at most 255 pages, an Extended Erase many more (sections 3.7 and 3.8).
PAGES_AT_ONCE = 128

STEP_SECONDS = 1.0
#: A mass erase takes up to 32 s (STM32F407 data sheet, the table of that name, 8-bit parallelism).
MASS_ERASE_SECONDS = 40.0


@dataclass(frozen=True)
class Bootloader:
    """``version``: e.g. ``3.1``; ``commands``: the codes of what it knows; ``product_id``: 12 bits, AN2606."""

    version: str
    commands: FrozenSet[int]
    product_id: int


def command(code: int) -> bytes:
    """Return a command: its code and the complement."""
    return bytes([code, code ^ 0xFF])


def checked(data: bytes) -> bytes:
    """Return ``data`` with the XOR of its bytes."""
    return data + bytes([reduce(lambda left, right: left ^ right, data)])


def address(value: int) -> bytes:
    """Return an address with its checksum."""
    return checked(struct.pack(">I", value))


class Stm32Rom:
    """A conversation with one bootloader. Methods raise ``ProtocolError`` or a subclass when the board objects."""

    def __init__(self, port: Port):
        self.port = port

    def synchronize(self, timeout: float = 0.2) -> None:
        """Tell a chip that comes out of reset the rate, or find one that knows it; raises ``NoAnswerError``.

        Section 1. The second byte ends what the first has begun on a chip that was spoken to before.
        """
        for _ in range(2):
            self.port.discard_input()
            self.port.write(bytes([INIT]))
            answer = self.port.read(1, timeout)
            if answer and answer[0] in (ACK, NACK):
                return
            if answer:
                raise ProtocolError(f"{self.port.name}: init: neither ACK nor NACK: {answer.hex()}")
        raise NoAnswerError(f"{self.port.name}: init: no answer within {2 * timeout:g} s")

    def get(self) -> Bootloader:
        """Return the bootloader's version, its commands and the chip's product id (sections 3.1 and 3.3)."""
        answer = self._counted(GET)
        if GET_ID not in answer[1:]:
            raise ProtocolError(f"{self.port.name}: get: {answer.hex()} is no list of commands")
        product = self._counted(GET_ID)
        if len(product) != 2:
            raise ProtocolError(f"{self.port.name}: get id: expected 2 bytes, got {product.hex()}")
        version = f"{answer[0] >> 4}.{answer[0] & 0x0F}"
        return Bootloader(version, frozenset(answer[1:]), int.from_bytes(product, "big"))

    def read(self, start: int, size: int) -> bytes:
        """Return 1 to 256 bytes of memory from an absolute address (section 3.4)."""
        where = f" at {start:#010x}"
        self._begin(READ)
        self._send(address(start), READ, where)
        self._send(command(size - 1), READ, where)
        data = self.port.read(size, STEP_SECONDS)
        if len(data) < size:
            raise ProtocolError(f"{self.port.name}: read memory{where}: expected {size} bytes, got {len(data)}")
        return data

    def write(self, start: int, data: bytes) -> None:
        """Write up to 256 bytes, a multiple of 4, to erased flash (section 3.6)."""
        where = f" at {start:#010x}"
        self._begin(WRITE)
        self._send(address(start), WRITE, where)
        self._send(checked(bytes([len(data) - 1]) + data), WRITE, where)

    def erase(self, sectors: List[int], extended: bool, sector_seconds: float) -> None:
        """Erase sectors by their numbers (sections 3.7 and 3.8), each of which takes up to ``sector_seconds``."""
        code = EXTENDED_ERASE if extended else ERASE
        layout = ">H" if extended else ">B"
        for first in range(0, len(sectors), PAGES_AT_ONCE):
            some = sectors[first : first + PAGES_AT_ONCE]
            self._begin(code)
            body = b"".join(struct.pack(layout, number) for number in [len(some) - 1, *some])
            timeout = STEP_SECONDS + sector_seconds * len(some)
            self._send(checked(body), code, f" of sectors {some[0]} to {some[-1]}", timeout)

    def go(self, start: int) -> None:
        """Start the program whose vector table is at an absolute address (section 3.5)."""
        self._begin(GO)
        self._send(address(start), GO, f" to {start:#010x}")

    def readout_unprotect(self) -> None:
        """Lift the read protection. **This erases the flash**, and resets the chip (section 3.12)."""
        self._send(command(READOUT_UNPROTECT), READOUT_UNPROTECT)
        self._acknowledged(READOUT_UNPROTECT, "", MASS_ERASE_SECONDS)

    def is_protected(self, start: int) -> bool:
        """Whether the chip refuses to read; ``start`` is an address that an unprotected chip would read."""
        try:
            self.read(start, 4)
        except ProtectedError:
            return True
        return False

    def _counted(self, code: int) -> bytes:
        """Return what a command answers: its bytes less one in the first, then an ACK."""
        self._send(command(code), code)
        count = self.port.read(1, STEP_SECONDS)
        data = self.port.read(count[0] + 1, STEP_SECONDS) if count else b""
        if not count or len(data) < count[0] + 1:
            raise ProtocolError(f"{self.port.name}: {NAMES[code]}: answer cut short: {(count + data).hex() or 'none'}")
        self._acknowledged(code, "", STEP_SECONDS)
        return data

    def _begin(self, code: int) -> None:
        """Send the code of a command that a read-protected chip refuses."""
        try:
            self._send(command(code), code)
        except RefusedError:
            raise ProtectedError(
                f"{self.port.name}: {NAMES[code]}: refused, so the chip is read-protected; lifting that erases it, so "
                "it is done only when the inventory says so: set unprotect = True for this board"
            ) from None

    def _send(self, data: bytes, code: int, where: str = "", timeout: float = STEP_SECONDS) -> None:
        self.port.discard_input()
        self.port.write(data)
        self._acknowledged(code, where, timeout)

    def _acknowledged(self, code: int, where: str, timeout: float) -> None:
        answer = self.port.read(1, timeout)
        what = f"{self.port.name}: {NAMES[code]}{where}"
        if not answer:
            raise NoAnswerError(f"{what}: no answer within {timeout:g} s")
        if answer[0] == NACK:
            raise RefusedError(f"{what}: refused by the bootloader (NACK)")
        if answer[0] != ACK:
            raise ProtocolError(f"{what}: neither ACK nor NACK: {answer.hex()}")
