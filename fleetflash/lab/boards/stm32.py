"""A mainboard with an STM32 behind a USB-UART bridge: the chip's own bootloader, and a Klipper application."""

import argparse
from collections.abc import Callable
from typing import Any

from fleetflash.lab.boards.application import Application
from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import DEAD, Boot, Cause
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.stm32_chips import FLASH_BASE, UID_LENGTH, Stm32, uid_from_name
from fleetflash.lab.boards.stm32_memory import Stm32Memory
from fleetflash.lab.boards.stm32_options import Stm32Options
from fleetflash.lab.boards.stm32_rom import Stm32Rom
from fleetflash.lab.image import Firmware


class Stm32Board(Board):
    """BOOT0 and NRST hang on DTR and RTS, or on two buttons."""

    def __init__(self, settings: Settings, chip: Stm32, uid: bytes) -> None:
        super().__init__(settings)
        self._chip = chip
        self._uid = uid
        self._flash = CodeFlash(settings.flash, chip.flash_size)
        self._options = Stm32Options(settings.flash.with_name(settings.flash.name + ".options"), chip)
        self._application = Application(self._flash, base=FLASH_BASE)

    @classmethod
    def of(cls, chip: Stm32) -> Callable[[Settings, argparse.Namespace], "Stm32Board"]:
        """A builder for the command line, which raises ValueError."""
        return lambda settings, arguments: cls(settings, chip, read_uid(arguments.uid, settings))

    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        self._options.load()
        if asked and not self.refuses_bootloader():
            memory = Stm32Memory(self._chip, self._uid, self._flash, self._options)
            return Boot(
                "bootloader",
                lambda due: Stm32Rom(self, due, self._chip, self._flash, self._options, memory, self._go),
            )
        return self._start_application()

    def _start_application(self) -> Boot:
        if firmware := self.firmware():
            return Boot("application", lambda due: KlipperApp(self, firmware, due))
        return DEAD

    def _go(self, address: int, at: float) -> None:
        """The bootloader jumps; only what was linked for that address runs there. Nothing resets."""
        self.leave(lambda: self._start_application() if address == FLASH_BASE else DEAD, at)

    def firmware(self) -> Firmware | None:
        return self._application.firmware()

    def describe(self) -> dict[str, Any]:
        return {
            "uid": self._uid.hex(),
            "chip": self._chip.name,
            "read_protected": self._options.level > 0,
            "write_protected": self._options.any_write_protected,
        }


def read_uid(text: str | None, settings: Settings) -> bytes:
    """The unique id asked for, or one made from the flash file's name; raises ValueError."""
    if text is None:
        return uid_from_name(settings.flash.name)
    uid = bytes.fromhex(text.replace("-", "").replace(":", ""))
    if len(uid) < UID_LENGTH:
        # The lab names boards by eight bytes.
        uid = uid.ljust(UID_LENGTH, b"\0")
    if len(uid) != UID_LENGTH:
        raise ValueError(f"--uid {text}: {len(uid)} bytes, an STM32 has {UID_LENGTH}")
    return uid
