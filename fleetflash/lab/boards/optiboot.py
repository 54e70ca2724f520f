"""Optiboot 8.3 as on an ATmega328P: a subset of STK500 version 1 in 512 bytes.

Source: Optiboot's ``optiboot.c`` and ``stk500.h``; names and codes of commands as in Microchip's AVR061. It refuses
nothing: fuses read as 0, the EEPROM reads as flash, and writing the EEPROM hangs until the watchdog.
"""

from fleetflash.lab.boards.avr_flash import AvrScript
from fleetflash.lab.boards.script import Silence, Steps, Verdict, Wait

IN_SYNC, OK, END_OF_PACKET = 0x14, 0x10, 0x20
GET_PARAMETER, SET_DEVICE, SET_DEVICE_EXTENDED, LOAD_ADDRESS, UNIVERSAL = 0x41, 0x42, 0x45, 0x55, 0x56
PROGRAM_PAGE, READ_PAGE, READ_SIGNATURE, LEAVE = 0x64, 0x74, 0x75, 0x51
MAJOR, MINOR, OTHER = 0x81, 0x82, 0x03
IGNORED = {SET_DEVICE: 20, SET_DEVICE_EXTENDED: 5}

WATCHDOG = 1.0  # seconds without a good byte until the reset that starts the application
SHORT_WATCHDOG = 0.016


class OutOfSync(Exception):
    """A command did not end with a space: the watchdog is shortened, and nothing is heard any more."""


class Optiboot(AvrScript):
    """One run after an external reset. The watchdog ends it, always."""

    def main(self) -> Steps[None]:
        self._address = 0
        try:
            while True:
                yield from self._command()
        except Silence:
            pass
        except OutOfSync:
            yield Wait(SHORT_WATCHDOG)
        self.leave(self.now)

    def _command(self) -> Steps[None]:
        code = yield from self.byte(WATCHDOG)
        if code == PROGRAM_PAGE:
            yield from self._program()
        elif code == READ_PAGE:
            yield from self._read()
        elif code == LOAD_ADDRESS:
            low, high = yield from self.read(2, WATCHDOG)
            yield from self._finish("address")
            self._address = (high << 8 | low) * 2 & 0xFFFF
        elif code == GET_PARAMETER:
            which = yield from self.byte(WATCHDOG)
            minor, major = self.chip.version
            yield from self._finish("identify", bytes([{MINOR: minor, MAJOR: major}.get(which, OTHER)]))
        elif code == UNIVERSAL:
            yield from self.read(4, WATCHDOG)
            yield from self._finish("config", b"\0")
        elif code == READ_SIGNATURE:
            yield from self._finish("identify", self.chip.signature)
        elif code == LEAVE:
            yield from self._finish("end")
            yield Wait(SHORT_WATCHDOG)
            raise Silence
        else:
            yield from self.read(IGNORED.get(code, 0), WATCHDOG)
            yield from self._finish("identify")

    def _space(self) -> Steps[None]:
        if (yield from self.byte(WATCHDOG)) != END_OF_PACKET:
            raise OutOfSync

    def _finish(self, command: str, data: bytes = b"") -> Steps[None]:
        yield from self._space()
        verdict = yield from self.obey(command)
        self._reply(verdict, data)

    def _reply(self, verdict: Verdict, data: bytes = b"", *, spoils_data: bool = False) -> None:
        status = verdict.fault.status if verdict.fault else OK
        frame = bytes([IN_SYNC, *data, OK])
        self.answer(verdict, frame, bytes([IN_SYNC, status]), spoils_data=spoils_data)

    def _program(self) -> Steps[None]:
        """The high byte of the length is skipped; 0 means 256. The page is erased before it is written."""
        _, length, memory = yield from self.read(3, WATCHDOG)
        data = yield from self.read(length or 256, WATCHDOG)
        yield from self._space()
        start = self._address % self.chip.flash_size
        verdict = yield from self.obey("program", start, len(data))
        if memory == ord("E") or len(data) % 2:
            # Loops until the watchdog ends it.
            self.send(bytes([IN_SYNC]))
            yield Wait(WATCHDOG)
            raise Silence
        if verdict.fault is None:
            self.send(bytes([IN_SYNC]))
        if verdict.executes:
            yield from self.erase_page(start)
            yield from self.write_page(verdict, start, data)
        if verdict.fault is None:
            self.send(bytes([OK]))
        else:
            self._reply(verdict, spoils_data=True)

    def _read(self) -> Steps[None]:
        _, length, _ = yield from self.read(3, WATCHDOG)
        yield from self._space()
        start = self._address % self.chip.flash_size
        verdict = yield from self.obey("read", start, length or 256)
        self._reply(verdict, self.read_flash(start, length or 256))
