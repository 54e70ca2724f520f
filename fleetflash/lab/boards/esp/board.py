"""A development board: an ESP chip with its flash behind a USB-UART bridge, in one process on one pseudo-terminal."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import Boot, Cause
from fleetflash.lab.boards.circuit import Program
from fleetflash.lab.boards.esp.auto_reset import RISE_TIME, AutoReset
from fleetflash.lab.boards.esp.boot_choice import choose
from fleetflash.lab.boards.esp.boot_log import boot_flash, download_refused_script, download_script
from fleetflash.lab.boards.esp.chips import POWER_ON, SOFTWARE, WATCHDOG, EspChip, mac_from_name, parse_mac
from fleetflash.lab.boards.esp.console import BAUD, Console, Line, Script
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.download_mode import DownloadMode
from fleetflash.lab.boards.esp.efuses import Security
from fleetflash.lab.boards.esp.services import OPTIONS as NETWORK_OPTIONS
from fleetflash.lab.boards.esp.services import Networks, Services
from fleetflash.lab.boards.esp.speech import Said, speak
from fleetflash.lab.boards.esp.spi_flash import SpiFlash
from fleetflash.lab.esp_format import AppDescription
from fleetflash.lab.esp_image import AppLine
from fleetflash.lab.esp_partitions import Partition, TableError
from fleetflash.lab.image import Firmware

SOFTWARE_RESET_TIME = 0.002  # seconds until the ROM prints, when EN stays high
CAUSES = {Cause.SOFTWARE: SOFTWARE, Cause.WATCHDOG: WATCHDOG}  # all others are EN: the chip can't tell them apart

CRASH = (Line("abort() was called at PC 0x400d5a33 on core 0", 0.010), Line("Rebooting..."))

#: What ``fleetflash board`` takes for these boards: flag, and what ``add_argument`` takes.
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--flash-size", {"type": int, "default": 4, "metavar": "MIB", "help": "1, 2, 4, 8 or 16 (default: 4)"}),
    ("--secure-boot", {"action": "store_true", "help": "burnt; images are not checked for signatures"}),
    ("--flash-encryption", {"action": "store_true", "help": "burnt; flash is not encrypted all the same"}),
    ("--secure-download", {"action": "store_true", "help": "burnt: only writing is left in download mode"}),
    ("--equipment", {"action": "append", "default": [], "metavar": "NAME=VARIANT", "help": "e.g. sd=yes"}),
    ("--download-disabled", {"action": "store_true", "help": "burnt: there is no download mode"}),
    *NETWORK_OPTIONS,
)


def _assignment(text: str) -> tuple[str, str]:
    """Raises ValueError."""
    name, sign, variant = text.partition("=")
    if not (name and sign and variant):
        raise ValueError(f"--equipment {text}: expected NAME=VARIANT, e.g. sd=yes")
    return name, variant


class EspBoard(Board):
    """EN and IO0 hang on DTR and RTS, or on two buttons: EN and BOOT."""

    def __init__(
        self,
        settings: Settings,
        chip: EspChip,
        mac: bytes,
        flash: SpiFlash,
        security: Security,
        equipment: Mapping[str, str],
        networks: Networks,
    ) -> None:
        super().__init__(settings, reset=AutoReset() if settings.wiring else None)
        self._chip = chip
        self._mac = mac
        self._flash = flash
        self._security = security
        self._equipment = equipment
        self._networks = networks
        self._services: Services | None = None
        self._strapped_download = False
        self._download_mode: DownloadMode | None = None
        self._application: tuple[AppDescription | None, Partition | None] = None, None
        self._application_generation = -1

    @classmethod
    def of(cls, chip: EspChip) -> Callable[[Settings, argparse.Namespace], "EspBoard"]:
        """A builder for the command line, which raises ValueError and FlashError."""

        def build(settings: Settings, arguments: argparse.Namespace) -> EspBoard:
            if arguments.secure_download and not chip.has_security_info:
                raise ValueError(f"--secure-download: an {chip.name} has no such mode; leave it out")
            security = Security(
                secure_boot=arguments.secure_boot,
                flash_encryption=arguments.flash_encryption,
                secure_download=arguments.secure_download,
                download_disabled=arguments.download_disabled,
            )
            mac = parse_mac(arguments.uid) if arguments.uid else mac_from_name(str(settings.flash.absolute()))
            equipment = dict(_assignment(text) for text in arguments.equipment)
            flash, networks = SpiFlash(settings.flash, arguments.flash_size << 20), Networks.of(arguments)
            return cls(settings, chip, mac, flash, security, equipment, networks)

        return build

    # Circuit: what the programs of these chips may do besides

    def restart(self, cause: int, at: float) -> None:
        if cause == WATCHDOG:
            self.watchdog_reset(at)
        else:
            self.software_reset(at)

    def run_user_code(self, at: float) -> None:
        self.leave(lambda: self._start_flash(SOFTWARE, SOFTWARE_RESET_TIME), at)

    # Reset and boot

    def release_reset(self) -> None:
        """EN rises; once it is up, IO0 is read."""
        self.later(RISE_TIME, lambda due: self.start(Cause.PINS, due))

    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        number = CAUSES.get(cause, POWER_ON)
        if number == POWER_ON:
            self._strapped_download = asked
        after = SOFTWARE_RESET_TIME if cause in CAUSES or cause is Cause.PINS else RISE_TIME
        if not self._strapped_download or self.refuses_bootloader():
            return self._start_flash(number, after)
        if self._security.download_disabled:
            return self._printing("dead", download_refused_script(self._chip, number), after)
        return Boot("bootloader", lambda due: self._start_rom(download_script(self._chip, number), due), after)

    def _start_rom(self, script: Script, due: float) -> Program:
        # The line keeps what the ROM says in order.
        for line in script.lines:
            self.line.send(line.text.encode() + b"\r\n", BAUD, due)
        self._download_mode = DownloadMode(self, Core.after_reset(self._chip, self._mac, self._security, self._flash))
        return self._download_mode

    def _start_flash(self, cause: int, after: float) -> Boot:
        started = boot_flash(self._chip, self._flash.read, self._flash.size, cause, self._say)
        script = started.script
        if started.partition and self.faults.take_boot("boot_loop"):
            self.log("fault boot_loop")
            script = replace(script, lines=[*script.lines, *CRASH], restart=SOFTWARE, pause=0.05)
        return self._printing("application" if started.partition else "dead", script, after)

    def _say(self, lines: Sequence[AppLine], version: str) -> Said:
        return speak(lines, version, self._chip, self._equipment, self.faults)

    def application_runs(self, due: float) -> None:
        """An application joins its networks; one in a boot loop says so first: that is in its script."""
        application, _ = self._bootable()
        self._services = Services(self.loop, self._networks, self.faults, application, self._equipment, due)

    def _stop_program(self) -> None:
        super()._stop_program()
        if self._services:
            self._services.close()
            self._services = None

    def _printing(self, mode: str, script: Script, after: float) -> Boot:
        return Boot(mode, lambda due: Console(self, script, due), after)

    # Status

    def firmware(self) -> Firmware | None:
        """Never: what runs here is not Klipper's. ``describe`` tells the version."""
        return None

    def _bootable(self) -> tuple[AppDescription | None, Partition | None]:
        """What the flash would start now."""
        if self._application_generation != self._flash.generation:
            self._application_generation = self._flash.generation
            try:
                choice = choose(self._chip, self._flash.read)
            except TableError:
                self._application = None, None
            else:
                self._application = AppDescription.of(choice.image) if choice.image else None, choice.partition
        return self._application

    def describe(self) -> dict[str, Any]:
        application, partition = self._bootable()
        return {
            "version": application.version if application else None,
            "project": application.project if application else None,
            "partition": partition.label if partition else None,
            "loader": self._download_mode.loader if self._download_mode and self.mode == "bootloader" else None,
            "sectors_erased": self._flash.sectors_erased,
            "bytes_written": self._flash.bytes_written,
            "mac": self._mac.hex(":"),
            "uid": self._mac.hex(),
            "chip": self._chip.name,
        }
