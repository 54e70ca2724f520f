"""BMCU-C: a CH32V203 behind a CH340, with WCH's factory bootloader and a Klipper application."""

import argparse
from typing import Any

from fleetflash.lab.boards.application import Application
from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import DEAD, Boot, Cause
from fleetflash.lab.boards.chip import CHIPS, Chip, complete_uid, uid_from_name
from fleetflash.lab.boards.flash import CodeFlash, OptionBytes
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.wch_bootloader import WchBootloader
from fleetflash.lab.image import Firmware


class BmcuC(Board):
    """BOOT0 and reset hang on DTR and RTS, or on two buttons."""

    def __init__(self, settings: Settings, chip: Chip) -> None:
        super().__init__(settings)
        self._chip = chip
        self._flash = CodeFlash(settings.flash, chip.flash_size)
        self._options = OptionBytes(settings.flash.with_name(settings.flash.name + ".options"))
        self._application = Application(self._flash)

    @classmethod
    def build(cls, settings: Settings, arguments: argparse.Namespace) -> "BmcuC":
        """From the command line; raises ValueError."""
        if arguments.uid is None:
            uid = uid_from_name(settings.flash.name)
        else:
            uid = bytes.fromhex(arguments.uid.replace("-", "").replace(":", ""))
            uid = complete_uid(uid) if len(uid) == 6 else uid
        if arguments.chip_id not in CHIPS:
            known = ", ".join(f"0x{chip_id:02x}" for chip_id in CHIPS)
            raise ValueError(f"--chip-id 0x{arguments.chip_id:02x} is not known; use one of {known}")
        return cls(settings, Chip.make(arguments.chip_id, uid))

    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        self._options.load()
        wanted = asked if cause is Cause.PINS else cause is Cause.BUTTON
        if wanted and not self.refuses_bootloader():
            return Boot("bootloader", lambda _due: WchBootloader(self, self._chip, self._flash, self._options))
        if firmware := self.firmware():
            return Boot("application", lambda due: KlipperApp(self, firmware, due))
        return DEAD

    def firmware(self) -> Firmware | None:
        return self._application.firmware()

    def describe(self) -> dict[str, Any]:
        return {
            "read_protected": self._options.read_protected,
            "uid": self._chip.uid.hex(),
            "chip_id": self._chip.chip_id,
        }
