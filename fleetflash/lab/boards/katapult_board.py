"""A mainboard or toolhead board with Katapult in front of Klipper."""

import argparse
import time
from collections.abc import Callable
from typing import Any

from fleetflash.lab.boards.application import Application
from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import DEAD, Boot, Cause
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.katapult import Katapult
from fleetflash.lab.boards.katapult_chips import KatapultChip
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.reset_pin import NoReset
from fleetflash.lab.boards.usb_board import UsbBoard
from fleetflash.lab.image import Firmware
from fleetflash.lab.usb import UsbDevice, katapult_device, klipper_device

UART_BAUD = 250000  # CONFIG_SERIAL_BAUD, Katapult's default
TOUCH_BAUD = 1200
# After a reset the request is in RAM from 10 to 500 ms: a second reset in that time finds it (src/bootentry.c).
DOUBLE_RESET = (0.010, 0.500)
ENTER, START_APPLICATION = "enter", "start application"


class KatapultBoard(Board):
    """Katapult's part of a board; whether its port is the chip's own is said by the class beside this one."""

    chip: KatapultChip
    uid: bytes

    def prepare(self, chip: KatapultChip, uid: bytes, baud: int | None) -> None:
        """Put the chip on the board, with Katapult in its flash."""
        self.chip = chip
        self.uid = uid
        self._baud = baud
        self._flash = CodeFlash(self.settings.flash, chip.flash_size)
        if self._flash.read(0, chip.offset) == b"\xff" * chip.offset:
            self._flash.clear_bits(0, chip.own_code())
        self._application = Application(self._flash, offset=chip.offset, base=chip.application)
        self._request: str | None = None  # the word in RAM that outlasts a reset
        self._armed: tuple[float, float] | None = None

    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        """src/bootentry.c, and reset_handler_stage_two in src/generic/armcm_canboot.c."""
        now = time.monotonic()
        request = None if cause is Cause.POWER else self._request
        armed = self._armed is not None and self._armed[0] <= now < self._armed[1]
        self._request, self._armed = None, None
        if request == START_APPLICATION:
            return self._application_after(0.0)
        wanted = request == ENTER or cause is Cause.BUTTON or (armed and cause is not Cause.POWER)
        if wanted and self.refuses_bootloader():
            wanted = False
        if wanted or not self._looks_valid():
            return Boot("bootloader", self._katapult, usb=self.device(katapult_device))
        self._armed = now + DOUBLE_RESET[0], now + DOUBLE_RESET[1]
        return self._application_after(DOUBLE_RESET[1])

    def device(self, _make: Callable[[str, str], UsbDevice]) -> UsbDevice | None:
        """What the chip is on USB; nothing behind a bridge."""
        return None

    def _looks_valid(self) -> bool:
        """All that Katapult checks: the first word is neither erased nor 0."""
        return self._flash.read(self.chip.offset, 4) not in (b"\xff" * 4, bytes(4))

    def _application_after(self, seconds: float) -> Boot:
        firmware = self.firmware()
        if firmware is None:
            return DEAD
        found = firmware
        usb = self.device(klipper_device)
        boot = Boot("application", lambda due: self._klipper(found, due), usb=usb)
        return Boot(boot.mode, boot.program, boot.after + seconds, usb)

    def _klipper(self, firmware: Firmware, due: float) -> KlipperApp:
        return KlipperApp(self, firmware, due, lambda at: self._reset_with(ENTER, at))

    def _katapult(self, due: float) -> Katapult:
        return Katapult(
            self, due, self.chip, self._flash, self._baud, lambda at: self._reset_with(START_APPLICATION, at)
        )

    def _reset_with(self, request: str, at: float) -> None:
        self._request = request
        self.software_reset(at)

    def power_off(self) -> None:
        self._request, self._armed = None, None
        super().power_off()

    def firmware(self) -> Firmware | None:
        return self._application.firmware()

    def describe(self) -> dict[str, Any]:
        return {"chip": self.chip.name, "uid": self.uid.hex()}


class KatapultUartBoard(KatapultBoard):
    """Behind a bridge, which stays when the chip resets; no modem line reaches the chip."""

    def __init__(self, settings: Settings, chip: KatapultChip, uid: bytes) -> None:
        super().__init__(settings, reset=NoReset())
        self.prepare(chip, uid, UART_BAUD)

    @classmethod
    def of(cls, chip: KatapultChip) -> Callable[[Settings, argparse.Namespace], "KatapultUartBoard"]:
        """A builder for the command line, which raises ValueError."""
        return lambda settings, arguments: cls(settings, chip, read_uid(arguments.uid, settings, chip))


class KatapultUsbBoard(KatapultBoard, UsbBoard):
    """The chip's own USB port: Klipper's id and name, and Katapult's."""

    def __init__(self, settings: Settings, chip: KatapultChip, uid: bytes) -> None:
        super().__init__(settings)
        self.prepare(chip, uid, None)

    @classmethod
    def of(cls, chip: KatapultChip) -> Callable[[Settings, argparse.Namespace], "KatapultUsbBoard"]:
        """A builder for the command line, which raises ValueError."""
        return lambda settings, arguments: cls(settings, chip, read_uid(arguments.uid, settings, chip))

    def device(self, make: Callable[[str, str], UsbDevice]) -> UsbDevice:
        return make(self.chip.mcu, self.uid.hex().upper())

    def lines_changed(self) -> None:
        """DTR dropped at 1200 baud asks Klipper for the bootloader (Klipper, check_reboot in usb_cdc.c)."""
        super().lines_changed()
        if self.line.attached and not self.dtr() and self.line.rate() == TOUCH_BAUD:
            program = self.program
            if isinstance(program, KlipperApp):
                program.enter_bootloader(time.monotonic())


def read_uid(text: str | None, settings: Settings, chip: KatapultChip) -> bytes:
    """The unique id asked for, or one made from the flash file's name; raises ValueError."""
    if text is None:
        return chip.uid_from_name(settings.flash.name)
    uid = bytes.fromhex(text.replace("-", "").replace(":", "")).ljust(chip.uid_length, b"\0")
    if len(uid) != chip.uid_length:
        raise ValueError(f"--uid {text}: {len(uid)} bytes, a {chip.name} has {chip.uid_length}")
    return uid
