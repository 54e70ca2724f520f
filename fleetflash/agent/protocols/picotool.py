"""RP2040 in the USB bootloader of its ROM (BOOTSEL), through ``picotool``.

Source of the facts: picotool's ``README.md`` of 2.0 and its ``help`` (arguments, "Device Information"); RP2040 data
sheet, section 2.8.5 (USB ids of the boot ROM). UF2 drag and drop is not used: a drive can't be read back.
"""

import re
import tempfile
from pathlib import Path
from typing import List, Tuple

from fleetflash.agent.protocols.errors import ProtocolError
from fleetflash.agent.protocols.external_tool import ToolSpec, image_file
from fleetflash.agent.protocols.flash_content import filled, trimmed
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Progress
from fleetflash.agent.protocols.usb_tool import OPTIONS, QUICK_SECONDS, WORK_SECONDS, UsbTool

#: What the boot ROM erases and writes at once.
PAGE = 256
#: A device's bus and its number there.
Place = Tuple[str, str]


def selection(place: Place) -> List[str]:
    return ["--bus", place[0], "--address", place[1]]


def info_arguments(place: Place) -> List[str]:
    return ["info", "-d", *selection(place)]


def load_arguments(place: Place, start: int, file: str) -> List[str]:
    return ["load", "-v", file, "-t", "bin", "-o", f"{start:#x}", *selection(place)]


def verify_arguments(place: Place, start: int, file: str) -> List[str]:
    return ["verify", file, "-t", "bin", "-o", f"{start:#x}", *selection(place)]


def save_arguments(place: Place, start: int, end: int, file: str) -> List[str]:
    return ["save", "-r", f"{start:#x}", f"{end:#x}", file, "-t", "bin", *selection(place)]


def reboot_arguments(place: Place) -> List[str]:
    return ["reboot", "-a", *selection(place)]


class PicotoolProgrammer(UsbTool):
    """An application at the start of the flash, its second stage bootloader included."""

    SPEC = ToolSpec(
        "picotool", ("version",), r"picotool v(\d+\.\d+\.\d+)", (2, 0), (3, 0), "build it from raspberrypi/picotool"
    )
    BOOTLOADER = ("2e8a:0003",)
    GESTURE = "hold BOOTSEL and tap RESET (or plug it in)"

    capabilities = Capabilities(
        read_back=True,
        entries=("request", "button"),
        tells_uid=False,
        connection="usb",
        options=OPTIONS,
        pace=Pace(baudrate=4_000_000, chunk=4096, overhead=64, busy=0.045, fixed=8.0),
    )

    def probe(self) -> Found:
        """``chip_id`` is the type that the ROM tells, e.g. ``rp2040``; ``uid`` is empty: the ROM has none."""
        output = self.tool.run(info_arguments(self._place()), QUICK_SECONDS)
        found = re.search(r"^\s*type:\s*(RP\d+)", output, re.MULTILINE)
        if found is None:
            raise self.tool.complaint("tells no type of chip", output)
        return Found(found[1].lower(), "")

    def read(self, progress: Progress) -> bytes:
        start, size = self.target.start, self.target.size
        with tempfile.TemporaryDirectory(prefix="fleetflash-") as directory:
            file = Path(directory) / "flash.bin"
            self.tool.run(save_arguments(self._place(), start, start + size, str(file)), WORK_SECONDS)
            data = file.read_bytes() if file.exists() else b""
        if len(data) != size:
            raise ProtocolError(f"{self.port.name}: picotool read {len(data)} bytes of {size}")
        progress(size, size)
        return trimmed(data, PAGE)

    def write(self, image: bytes, progress: Progress) -> None:
        with image_file(filled(image, PAGE)) as file:
            self.tool.run(load_arguments(self._place(), self.target.start, file), WORK_SECONDS)
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        with image_file(filled(image, PAGE)) as file:
            self.tool.run(verify_arguments(self._place(), self.target.start, file), WORK_SECONDS)
        progress(len(image), len(image))

    def _start(self) -> None:
        self.tool.run(reboot_arguments(self._place()), QUICK_SECONDS)

    def _place(self) -> Place:
        return self.socket.bus(), self.socket.number()
