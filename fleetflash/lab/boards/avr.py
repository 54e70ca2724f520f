"""Old mainboards with an AVR and an Arduino bootloader behind a USB-UART bridge."""

import argparse
from collections.abc import Callable
from typing import Any

from fleetflash.lab.boards.application import Application
from fleetflash.lab.boards.avr_chips import ATMEGA328P, Avr
from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import DEAD, Boot, Cause
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.modem import ALL_LINES, TIOCMBIC, TIOCMBIS
from fleetflash.lab.boards.optiboot import Optiboot
from fleetflash.lab.boards.reset_pin import EdgeReset, NoReset, ResetPin
from fleetflash.lab.boards.stk500v2 import Stk500v2
from fleetflash.lab.image import Firmware

# Why optiboot runs at all (optiboot.c, APP_START_REASONS): an external reset. The other bootloader runs after each
# reset but the watchdog's.
EXTERNAL = (Cause.PINS, Cause.BUTTON, Cause.TAP)


class AvrBoard(Board):
    """DTR resets through a capacitor: opening the port does so, since the driver then asserts it.

    The port hangs up: its last close drops both lines, unless its client has cleared HUPCL.
    """

    first_lines = 0

    def __init__(self, settings: Settings, chip: Avr) -> None:
        reset: ResetPin = EdgeReset() if settings.wiring else NoReset()
        super().__init__(settings, reset=reset)
        self._chip = chip
        self._flash = CodeFlash(settings.flash, chip.flash_size)
        if self._flash.read(chip.application_size) == b"\xff" * chip.boot_size:
            self._flash.clear_bits(chip.application_size, chip.boot_section())
        self._eeprom = CodeFlash(settings.flash.with_name(settings.flash.name + ".eeprom"), chip.eeprom_size)
        self._application = Application(self._flash, end=chip.application_size)
        self.line.opened = lambda: self._drive(TIOCMBIS)
        self.line.closed = lambda: self._drive(TIOCMBIC) if self.line.hangs_up() else None

    @classmethod
    def of(cls, chip: Avr) -> Callable[[Settings, argparse.Namespace], "AvrBoard"]:
        """A builder for the command line; an AVR has no unique id."""
        return lambda settings, _arguments: cls(settings, chip)

    def _drive(self, request: int) -> None:
        self.modem.request(request, ALL_LINES)

    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        small = self._chip is ATMEGA328P
        if cause not in EXTERNAL and (small or cause is Cause.WATCHDOG or cause is Cause.SOFTWARE):
            return self._start_application()
        if cause in EXTERNAL and self.refuses_bootloader():
            return self._start_application()
        return Boot("bootloader", self._optiboot if small else self._stk500v2)

    def _optiboot(self, due: float) -> Optiboot:
        return Optiboot(self, due, self._chip, self._flash, self.watchdog_reset)

    def _stk500v2(self, due: float) -> Stk500v2:
        return Stk500v2(self, due, self._chip, self._flash, self._jump, self._eeprom)

    def _jump(self, at: float) -> None:
        """The bootloader of the Mega jumps to 0; through erased flash the CPU comes back to it."""
        blank = self._flash.read(0, 2) == b"\xff\xff"
        self.leave(lambda: Boot("bootloader", self._stk500v2) if blank else self._start_application(), at)

    def _start_application(self) -> Boot:
        if firmware := self.firmware():
            return Boot("application", lambda due: KlipperApp(self, firmware, due))
        return DEAD

    def firmware(self) -> Firmware | None:
        return self._application.firmware()

    def describe(self) -> dict[str, Any]:
        return {"chip": self._chip.name, "signature": self._chip.signature.hex(), "uid": ""}
