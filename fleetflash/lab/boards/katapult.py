"""Katapult, the bootloader in front of Klipper, over a UART or the chip's own USB.

Sources: Katapult's ``src/command.c``, ``src/flashcmd.c`` and ``protocol.md``. Chosen here: reading or writing where the
address space has nothing crashes it, as the bus fault does on the chip, and the bytes after a bad frame are looked
through for the next one.
"""

import struct
from collections.abc import Callable

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.katapult_chips import VERSION, KatapultChip
from fleetflash.lab.boards.katapult_flash import BLOCK, KatapultFlash
from fleetflash.lab.boards.katapult_frames import (
    COMPLETE,
    CONNECT,
    EOF,
    ERROR,
    NACK,
    PROTOCOL_VERSION,
    READ,
    WRITE,
    FrameReader,
    acknowledge,
    frame,
)
from fleetflash.lab.boards.script import Steps, Verdict, Wait

NAMES = {CONNECT: "identify", WRITE: "program", EOF: "flush", READ: "read", COMPLETE: "end"}
COMPLETE_SECONDS = 0.1  # from the acknowledgement until it resets into the application
UART_BUFFER = 192


class BusFault(Exception):
    """There is nothing at that address: the chip hangs in its fault handler."""


class Katapult(KatapultFlash):
    """One run of the bootloader; ``start_application(at)`` ends it. ``baud`` is that of the UART, None over USB."""

    fifo = UART_BUFFER

    def __init__(
        self,
        circuit: Circuit,
        started: float,
        chip: KatapultChip,
        flash: CodeFlash,
        baud: int | None,
        start_application: Callable[[float], None],
    ) -> None:
        super().__init__(circuit, started, chip, flash)
        self.baud = baud
        self._start_application = start_application

    def main(self) -> Steps[None]:
        reader = FrameReader()
        try:
            while True:
                while (found := reader.next()) is None:
                    reader.feed((yield from self.read(1)))
                if isinstance(found, bool):
                    self.send(frame(NACK))
                elif (yield from self._execute(*found)):
                    return
        except BusFault as error:
            self.circuit.log(f"bus fault at {error}")

    def _execute(self, code: int, payload: bytes) -> Steps[bool]:
        """Run one command; whether it was the last one."""
        if code not in NAMES:
            self.send(frame(ERROR))
            return False
        address = struct.unpack_from("<I", payload)[0] if len(payload) >= 4 else 0
        covers = (address - self.chip.base, BLOCK) if code in (WRITE, READ) else (None, 0)
        verdict = yield from self.obey(NAMES[code], *covers)
        answer = frame(ERROR)
        if verdict.executes:
            answer = yield from self._answer(code, address, payload[4:], verdict)
        status = verdict.fault.status if verdict.fault else ERROR
        self.answer(verdict, answer, frame(status), spoils_data=code == WRITE)
        if code == COMPLETE and verdict.executes:
            yield Wait(COMPLETE_SECONDS)
            self._start_application(self.now)
            return True
        return False

    def _answer(self, code: int, address: int, data: bytes, verdict: Verdict) -> Steps[bytes]:
        word = struct.pack("<I", address)
        if code == CONNECT:
            return self._connected()
        if code == READ:
            return acknowledge(READ, word + self._read_block(address))
        if code == EOF:
            pages = yield from self.complete(verdict)
            return acknowledge(EOF, struct.pack("<I", pages))
        if code == WRITE:
            if len(data) != BLOCK or address < self.chip.application:
                return frame(ERROR)
            accepted = yield from self.write_block(verdict, address - self.chip.base, data)
            return acknowledge(WRITE, word) if accepted else frame(ERROR)
        return acknowledge(COMPLETE)

    def _connected(self) -> bytes:
        """Protocol version, application start, block size, MCU name and Katapult's version as strings of words.

        A word of zeros separates the two names.
        """
        numbers = struct.pack("<III", PROTOCOL_VERSION, self.chip.application, BLOCK)
        return acknowledge(CONNECT, numbers + words(self.chip.mcu) + bytes(4) + words(VERSION))

    def _read_block(self, address: int) -> bytes:
        """Any address will do, Katapult's own code and the chip's system memory included."""
        offset = address - self.chip.base
        if 0 <= offset <= self.chip.flash_size - BLOCK:
            return self.flash.read(offset, BLOCK)
        if self.chip.signature:
            system, register = self.chip.signature
            if system.start <= address <= system.stop - BLOCK:
                kib = struct.pack("<H", self.chip.flash_size // 1024)
                content = bytes(register - system.start) + kib + bytes(system.stop - register - len(kib))
                return content[address - system.start :][:BLOCK]
        raise BusFault(hex(address))


def words(text: str) -> bytes:
    """ASCII, filled up with zeros to whole words."""
    raw = text.encode()
    return raw.ljust(-(-len(raw) // 4) * 4, b"\0")
