"""STK500 version 1 as AVR bootloaders speak it: optiboot on an ATmega328P, and older Arduino bootloaders.

Source of the facts: Atmel AVR061, "STK500 Communication Protocol" (commands; its names are in brackets), and what
optiboot makes of them (``optiboot.c``, main and verifySpace).

- A command ends with 20 (Sync_CRC_EOP); the answer is 14 (Resp_STK_INSYNC), data, 10 (Resp_STK_OK).
- Addresses count words of two bytes, low byte first; lengths are in bytes, high byte first.
- Optiboot erases a page as it writes it, and so programs whole pages only. A command that does not end with 20 makes it
  restart into the application, and so does a second of silence (its watchdog).
"""

import struct

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError

EOP, IN_SYNC, OK = b"\x20", 0x14, 0x10
#: Answers that AVR061 has for what can't be done (Resp_STK_FAILED, Resp_STK_NODEVICE, Resp_STK_NOSYNC).
REFUSALS = (0x11, 0x13, 0x15)
GET_SYNC, LEAVE, LOAD_ADDRESS, PROGRAM_PAGE, READ_PAGE, READ_SIGNATURE = b"0", b"Q", b"U", b"d", b"t", b"u"
FLASH = b"F"
NAMES = {
    GET_SYNC: "get sync",
    LEAVE: "leave programming mode",
    LOAD_ADDRESS: "load address",
    PROGRAM_PAGE: "program page",
    READ_PAGE: "read page",
    READ_SIGNATURE: "read signature",
}
#: A page of an ATmega328P (its data sheet, "Page Size"); optiboot counts a page's bytes in 8 bits.
PAGE = 128
#: How far the address reaches: 64 Ki words.
REACH = 0x10000 * 2
STEP_SECONDS = 1.0


class Stk500v1:
    """A conversation with one bootloader. Methods raise ``ProtocolError`` or a subclass when the board objects."""

    page = PAGE
    reach = REACH

    def __init__(self, port: Port):
        self.port = port

    def sync(self, timeout: float = 0.15) -> None:
        """Find the bootloader (Cmnd_STK_GET_SYNC); raises ``NoAnswerError`` when none speaks."""
        self._command(GET_SYNC, b"", 0, timeout)

    def signature(self) -> bytes:
        """Return the three bytes that name the chip, e.g. 1e 95 0f for an ATmega328P (Cmnd_STK_READ_SIGN)."""
        return self._command(READ_SIGNATURE, b"", 3)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of flash from a byte address (Cmnd_STK_LOAD_ADDRESS, Cmnd_STK_READ_PAGE)."""
        self._load_address(address)
        return self._command(READ_PAGE, struct.pack(">H", size) + FLASH, size, at=address)

    def program(self, address: int, data: bytes) -> None:
        """Erase and write a page (Cmnd_STK_LOAD_ADDRESS, Cmnd_STK_PROG_PAGE)."""
        self._load_address(address)
        self._command(PROGRAM_PAGE, struct.pack(">H", len(data)) + FLASH + data, 0, at=address)

    def leave(self) -> None:
        """Start the application (Cmnd_STK_LEAVE_PROGMODE)."""
        self._command(LEAVE, b"", 0)

    def _load_address(self, address: int) -> None:
        if not 0 <= address < REACH:
            raise RefusedError(
                f"{self.port.name}: load address: {address:#x} is beyond the {REACH // 1024} KiB that STK500 version 1 "
                "reaches; this chip needs a bootloader that speaks version 2"
            )
        self._command(LOAD_ADDRESS, struct.pack("<H", address // 2), 0, at=address)

    def _command(self, code: bytes, data: bytes, size: int, timeout: float = STEP_SECONDS, at: int = -1) -> bytes:
        """Return the ``size`` bytes between INSYNC and OK."""
        what = f"{self.port.name}: {NAMES[code]}" + (f" at {at:#x}" if at >= 0 else "")
        self.port.discard_input()
        self.port.write(code + data + EOP)
        answer = self.port.read(size + 2, timeout)
        if not answer:
            raise NoAnswerError(f"{what}: no answer within {timeout:g} s")
        if answer[0] in REFUSALS:
            raise RefusedError(f"{what}: refused by the bootloader (answer {answer[0]:02x})")
        if answer[0] != IN_SYNC:
            raise ProtocolError(f"{what}: not in step: {answer[:32].hex()}")
        if len(answer) < size + 2:
            raise ProtocolError(f"{what}: expected {size} bytes, got {len(answer) - 1}")
        if answer[-1] != OK:
            raise RefusedError(f"{what}: ended with {answer[-1]:02x}, expected {OK:02x}")
        return answer[1:-1]
