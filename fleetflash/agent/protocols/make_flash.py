"""STM32 through ``make flash`` in a Klipper checkout on the host, for boards that only Klipper's own scripts know.

Source of the facts: Klipper's ``Makefile`` and ``src/stm32/Makefile`` (``flash`` depends on out/klipper.bin and runs
``scripts/flash_usb.py``) and that script (USB ids of bootloaders); GNU make's manual, section 9.3 (``-o``: a file that
is not made again).

The image is put where make has its own, and that is put back. Nothing is read or compared: whether it worked, the
running firmware says.
"""

import os
import re
from pathlib import Path
from typing import List

from fleetflash.agent import disk
from fleetflash.agent.protocols.errors import ProtocolError
from fleetflash.agent.protocols.external_tool import ToolSpec
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress
from fleetflash.agent.protocols.usb_tool import WORK_SECONDS, UsbTool
from fleetflash.agent.schema import Entry

IMAGE = "out/klipper.bin"


def flash_arguments(directory: str, device: str) -> List[str]:
    """Neither image nor program is built anew, whatever has changed in the checkout."""
    made = ["-o", "out/klipper.elf", "-o", IMAGE]
    return ["-C", directory, "--no-print-directory", *made, "flash", f"FLASH_DEVICE={device}"]


class MakeFlashProgrammer(UsbTool):
    """``options``: ``directory`` is the checkout, configured (``.config``) for the board's chip."""

    SPEC = ToolSpec("make", ("--version",), r"GNU Make (\d+\.\d+)", (4,), (5,), "apt install make")
    BOOTLOADER = ("0483:df11", "1d50:6177", "1eaf:0003", "1209:beba")
    GESTURE = "bring it into the bootloader that `make flash` expects"

    capabilities = Capabilities(
        read_back=False,
        entries=("request",),
        tells_uid=False,
        connection="usb",
        options={"tool": "", "directory": "/home/pi/klipper"},
        pace=Pace(baudrate=500_000, chunk=2048, overhead=16, busy=0.03, fixed=15.0),
    )

    def enter(self, entry: Entry, ask: Ask) -> None:
        """Klipper's script does it itself."""
        self.tool.check()

    def probe(self) -> Found:
        """``chip_id`` is the MCU that the checkout is configured for: the board itself is not asked."""
        try:
            text = (self._directory / ".config").read_text()
        except OSError as error:
            raise ProtocolError(
                f"{self.port.name}: {self._directory} is no configured Klipper checkout ({error.strerror}); set "
                "directory in options, and run make menuconfig there"
            ) from error
        mcu = re.search(r'^CONFIG_MCU="([^"]+)"', text, re.MULTILINE)
        start = re.search(r"^CONFIG_FLASH_APPLICATION_ADDRESS=(0x[0-9a-fA-F]+)", text, re.MULTILINE)
        if mcu is None or start is None or int(start[1], 16) != self.target.start:
            raise ProtocolError(
                f"{self.port.name}: {self._directory}/.config is for {mcu[1] if mcu else 'no MCU'} at "
                f"{start[1] if start else 'no address'}, expected an application at {self.target.start:#010x}"
            )
        return Found(mcu[1].lower(), "")

    def write(self, image: bytes, progress: Progress) -> None:
        self.probe()
        place = self._directory / IMAGE
        try:
            former = place.read_bytes() if place.exists() else None
            _write_as_owner(place, image)
        except OSError as error:
            raise ProtocolError(f"{self.port.name}: {place}: {error.strerror or error}") from error
        if not self.socket.tty() and self.socket.like([self.socket.ids()]) > 1:
            raise ProtocolError(
                f"{self.port.name}: several boards are in a bootloader {self.socket.ids()}, and make flash can't tell "
                "them apart; unplug the others"
            )
        try:
            device = self.socket.tty() or self.socket.ids()
            self.tool.run(flash_arguments(str(self._directory), device), WORK_SECONDS)
        finally:
            _put_back(place, former)
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        """Nothing can be compared: the running firmware has to say what it is."""
        progress(len(image), len(image))

    def reset(self) -> None:
        """``make flash`` ends with it."""
        if not self._comes(False):
            raise ProtocolError(f"{self.port.name}: the board is still in its bootloader; reset it by hand")

    def leave(self) -> None:
        """Only ``write`` enters a bootloader."""

    @property
    def _directory(self) -> Path:
        return Path({**self.capabilities.options, **self.target.options}["directory"])


def _write_as_owner(place: Path, data: bytes) -> None:
    """The checkout is a user's, whose next build must be able to write over it."""
    disk.write_file(place, data)
    owner = place.parent.stat()
    os.chown(str(place), owner.st_uid, owner.st_gid)


def _put_back(place: Path, former: "bytes | None") -> None:
    if former is None:
        disk.remove(place)
    else:
        _write_as_owner(place, former)
        # Older than what it is made of: the next build makes it again.
        os.utime(str(place), (0, 0))
