"""STM32 in the USB bootloader of its ROM, through ``dfu-util``.

Source of the facts: ``dfu-util(1)`` 0.11 (arguments; a DfuSe address with length and ``leave``) and what it lists; ST
UM0424, section 10.3.2 (the memory map in the name of an alternate setting, ``/0x08000000/04*016Kg,01*064Kg``).

The bootloader doesn't name the chip: it is known by the size of its internal flash, and the board by the serial number
that ST makes from the unique id.
"""

import re
import tempfile
from pathlib import Path
from typing import List

from fleetflash.agent.protocols.errors import ProtocolError, VerifyError
from fleetflash.agent.protocols.external_tool import ToolSpec, image_file
from fleetflash.agent.protocols.flash_content import difference, trimmed
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Progress
from fleetflash.agent.protocols.usb_tool import OPTIONS, QUICK_SECONDS, WORK_SECONDS, UsbTool, checked_output

ROM = "0483:df11"
FLASH = "@Internal Flash"
#: The unit in which a backup ends.
BLOCK = 256
UNITS = {"": 1, " ": 1, "B": 1, "K": 1024, "M": 1024 * 1024}
#: After *leave* the device is gone before it has answered, which 0.11 takes for an error (EX_IOERR).
LEFT = (0, 74)


def selection(path: str) -> List[str]:
    """Return the arguments that mean the device in a USB socket and its internal flash."""
    return ["-d", ROM, "-p", path, "-a", "0"]


def list_arguments(path: str) -> List[str]:
    return ["-l", "-d", ROM, "-p", path]


def write_arguments(path: str, address: int, file: str) -> List[str]:
    return [*selection(path), "-s", f"{address:#010x}", "-D", file]


def read_arguments(path: str, address: int, size: int, file: str) -> List[str]:
    return [*selection(path), "-s", f"{address:#010x}:{size}", "-U", file]


def leave_arguments(path: str, address: int, file: str) -> List[str]:
    """Reading four bytes is the least that dfu-util does before it leaves."""
    return [*selection(path), "-s", f"{address:#010x}:4:leave", "-U", file]


def flash_kib(memory_map: str) -> int:
    """Return the KiB of ``/0x08000000/04*016Kg,01*064Kg`` (UM0424)."""
    sectors = re.findall(r"(\d+)\*(\d+)\s*([BKM ]?)[a-g]", memory_map)
    return sum(int(count) * int(size) * UNITS[unit] for count, size, unit in sectors) // 1024


class DfuUtilProgrammer(UsbTool):
    """An application at the start of the flash, or behind a bootloader of the board's maker."""

    SPEC = ToolSpec("dfu-util", ("--version",), r"dfu-util (\d+\.\d+)", (0, 9), (0, 12), "apt install dfu-util")
    BOOTLOADER = (ROM,)
    GESTURE = "set the BOOT0 jumper (or hold its button) and tap RESET"

    capabilities = Capabilities(
        read_back=True,
        entries=("request", "button"),
        connection="usb",
        options=OPTIONS,
        pace=Pace(baudrate=500_000, chunk=2048, overhead=16, busy=0.03, fixed=8.0),
    )

    def probe(self) -> Found:
        """``chip_id`` is the bootloader's USB id and the flash's size in KiB, e.g. ``0483:df11/512``."""
        output = self.tool.run(list_arguments(self.socket.path), QUICK_SECONDS)
        here = f'path="{self.socket.path}"'
        lines = [line for line in output.splitlines() if FLASH in line and "alt=0" in line and here in line]
        if len(lines) != 1:
            raise self.tool.complaint(
                f"lists {len(lines)} devices with internal flash in {self.port.name}, not 1", output
            )
        serial = re.search(r'serial="([0-9A-Fa-f]+)"', lines[0])
        uid = serial[1].lower() if serial and len(serial[1]) % 2 == 0 else ""
        return Found(f"{ROM}/{flash_kib(lines[0].partition(FLASH)[2])}", uid)

    def read(self, progress: Progress) -> bytes:
        data = self._upload(self.target.size)
        progress(len(data), len(data))
        return trimmed(data, BLOCK)

    def write(self, image: bytes, progress: Progress) -> None:
        with image_file(image) as file:
            output = self.tool.run(write_arguments(self.socket.path, self.target.start, file), WORK_SECONDS)
        checked_output(self.tool, output, "File downloaded successfully")
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        at = difference(self._upload(len(image)), image)
        if at is not None:
            raise VerifyError(
                f"{self.port.name}: verify at {self.target.start + at:#010x}: the flash differs from the image"
            )
        progress(len(image), len(image))

    def _start(self) -> None:
        with tempfile.TemporaryDirectory(prefix="fleetflash-") as directory:
            file = str(Path(directory) / "four")
            self.tool.run(leave_arguments(self.socket.path, self.target.start, file), QUICK_SECONDS, LEFT)

    def _upload(self, size: int) -> bytes:
        with tempfile.TemporaryDirectory(prefix="fleetflash-") as directory:
            file = Path(directory) / "flash.bin"  # dfu-util writes over no file that is there
            self.tool.run(read_arguments(self.socket.path, self.target.start, size, str(file)), WORK_SECONDS)
            data = file.read_bytes() if file.exists() else b""
        if len(data) != size:
            raise ProtocolError(f"{self.port.name}: dfu-util read {len(data)} bytes of {size}")
        return data
