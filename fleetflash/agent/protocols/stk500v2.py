"""STK500 version 2 as AVR bootloaders speak it: that of the Arduino Mega 2560.

Source of the facts: Atmel AVR068, "STK500 Communication Protocol Version 2", and where named the bootloader
(arduino/Arduino-stk500v2-bootloader, ``stk500boot.c``).

- Message, both ways: ``1B | sequence | size (2 bytes, high first) | 0E | body | XOR of everything before``; the answer
  has the command's sequence number, and its body begins with the command and a status, 00 for success.
- Addresses count words of two bytes; the top bit says that they need more than 16 bits.
- The bootloader erases *the next page in order* at every page that it programs, whatever address was loaded, and begins
  at 0 when it starts. So an image is written from the start of the flash, page by page, once after each reset.
- It leaves for the application after about a second without a byte, later after several.
"""

import struct

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError

START, TOKEN = 0x1B, 0x0E
SIGN_ON, LOAD_ADDRESS, LEAVE, PROGRAM_FLASH, READ_FLASH, READ_SIGNATURE = 0x01, 0x06, 0x11, 0x13, 0x14, 0x1B
NAMES = {
    SIGN_ON: "sign on",
    LOAD_ADDRESS: "load address",
    LEAVE: "leave programming mode",
    PROGRAM_FLASH: "program flash",
    READ_FLASH: "read flash",
    READ_SIGNATURE: "read signature",
}
STATUS_OK = 0x00
LARGE_ADDRESS = 0x8000_0000
#: What the bootloader ignores but a programmer needs: page mode, write it, 10 ms; the SPI instructions to load a page,
#: to write it and to read flash; poll values (AVR068, sections on CMD_PROGRAM_FLASH_ISP and CMD_READ_FLASH_ISP).
PROGRAM_PARAMETERS = bytes([0xC1, 10, 0x40, 0x4C, 0x20, 0x00, 0x00])
READ_INSTRUCTION = 0x20
#: SPI instruction "read signature byte" (data sheet, "Serial Programming Instruction Set"); its answer is in byte 4.
SIGNATURE_INSTRUCTION = (4, 0x30, 0x00)
#: A page of an ATmega2560 (its data sheet, "Page Size").
PAGE = 256
REACH = 8 * 1024 * 1024
STEP_SECONDS = 1.0

_HEADER = struct.Struct(">BBHB")
_MAX_BODY = 285
_MAX_NOISE = 2048


def message(sequence: int, body: bytes) -> bytes:
    """Return a message."""
    data = _HEADER.pack(START, sequence, len(body), TOKEN) + body
    return data + bytes([_xor(data)])


def _xor(data: bytes) -> int:
    total = 0
    for byte in data:
        total ^= byte
    return total


class Stk500v2:
    """A conversation with one bootloader. Methods raise ``ProtocolError`` or a subclass when the board objects."""

    page = PAGE
    reach = REACH

    def __init__(self, port: Port):
        self.port = port
        self._sequence = 0

    def sync(self, timeout: float = 0.25) -> None:
        """Find the bootloader (CMD_SIGN_ON); raises ``NoAnswerError`` when none speaks.

        Some take no other sequence number than 1 for the first message, and count from there.
        """
        self._sequence = 0
        answer = self._command(bytes([SIGN_ON]), timeout=timeout)
        if not answer or len(answer) != answer[0] + 1:
            raise ProtocolError(f"{self.port.name}: sign on: {answer.hex() or 'nothing'} is no name")

    def signature(self) -> bytes:
        """Return the three bytes that name the chip, e.g. 1e 98 01 for an ATmega2560 (CMD_READ_SIGNATURE_ISP)."""
        found = b""
        for index in range(3):
            found += self._framed(READ_SIGNATURE, bytes([*SIGNATURE_INSTRUCTION, index, 0x00]), 1)
        return found

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of flash from a byte address (CMD_LOAD_ADDRESS, CMD_READ_FLASH_ISP)."""
        self._load_address(address)
        return self._framed(READ_FLASH, struct.pack(">HB", size, READ_INSTRUCTION), size, address)

    def program(self, address: int, data: bytes) -> None:
        """Write a page; the pages before it have been written since the bootloader started (CMD_PROGRAM_FLASH_ISP)."""
        self._load_address(address)
        head = struct.pack(">BH", PROGRAM_FLASH, len(data))
        self._command(head + PROGRAM_PARAMETERS + data, at=address)

    def leave(self) -> None:
        """Start the application (CMD_LEAVE_PROGMODE_ISP)."""
        self._command(bytes([LEAVE, 1, 1]))

    def _load_address(self, address: int) -> None:
        words = address // 2
        large = LARGE_ADDRESS if words > 0xFFFF else 0
        self._command(struct.pack(">BI", LOAD_ADDRESS, words | large), at=address)

    def _framed(self, code: int, parameters: bytes, size: int, at: int = -1) -> bytes:
        """Return the ``size`` bytes of an answer that ends with a second status."""
        answer = self._command(bytes([code]) + parameters, at=at)
        if len(answer) != size + 1:
            raise ProtocolError(f"{self._what(code, at)}: expected {size} bytes, got {max(0, len(answer) - 1)}")
        self._check(code, answer[-1], at)
        return answer[:-1]

    def _command(self, body: bytes, timeout: float = STEP_SECONDS, at: int = -1) -> bytes:
        """Send a body; return what follows command and status in the answer's."""
        code = body[0]
        self._sequence = (self._sequence + 1) & 0xFF
        self.port.discard_input()
        self.port.write(message(self._sequence, body))
        answer = self._receive(self._what(code, at), timeout)
        if len(answer) < 2 or answer[0] != code:
            raise ProtocolError(f"{self._what(code, at)}: the answer is to something else: {answer[:32].hex()}")
        self._check(code, answer[1], at)
        return answer[2:]

    def _receive(self, what: str, timeout: float) -> bytes:
        """Return the body of the next message; what comes before it is passed over."""
        passed = b""
        while True:
            first = self.port.read(1, timeout)
            if not first:
                if not passed:
                    raise NoAnswerError(f"{what}: no answer within {timeout:g} s")
                raise ProtocolError(f"{what}: not an STK500v2 answer: {passed[:32].hex()}")
            if first[0] == START:
                break
            passed += first
            if len(passed) > _MAX_NOISE:
                raise ProtocolError(f"{what}: not an STK500v2 answer: {passed[:32].hex()} and more")
        head = first + self.port.read(_HEADER.size - 1, timeout)
        if len(head) < _HEADER.size:
            raise ProtocolError(f"{what}: answer cut short: {head.hex()}")
        _, sequence, size, token = _HEADER.unpack(head)
        if token != TOKEN or sequence != self._sequence or size > _MAX_BODY:
            raise ProtocolError(f"{what}: not the answer to message {self._sequence}: {head.hex()}")
        rest = self.port.read(size + 1, timeout)
        if len(rest) < size + 1:
            raise ProtocolError(f"{what}: answer cut short after {len(rest)} of {size + 1} bytes")
        if _xor(head + rest):
            raise ProtocolError(f"{what}: wrong checksum in {(head + rest)[:32].hex()}")
        return rest[:-1]

    def _check(self, code: int, status: int, at: int) -> None:
        if status != STATUS_OK:
            raise RefusedError(f"{self._what(code, at)}: refused with status {status:02x}")

    def _what(self, code: int, at: int) -> str:
        return f"{self.port.name}: {NAMES[code]}" + (f" at {at:#x}" if at >= 0 else "")
