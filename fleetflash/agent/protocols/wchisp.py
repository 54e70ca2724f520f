"""CH32V203 in WCH's factory bootloader on USB, through ``wchisp``.

Source of the facts: ``src/main.rs`` of wchisp (arguments), its ``README.md`` and ``src/flashing.rs`` (output of
*info*). The same payload as over a UART (``wch_isp``), in which no code flash can be read.

wchisp means devices by their number only, so there must be no other in its bootloader.
"""

import re
from typing import List

from fleetflash.agent.protocols.errors import ProtectedError, ProtocolError
from fleetflash.agent.protocols.external_tool import ToolSpec, image_file
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Progress
from fleetflash.agent.protocols.usb_tool import OPTIONS, QUICK_SECONDS, WORK_SECONDS, UsbTool, checked_output

FIRST = ["--usb", "--device", "0"]


def info_arguments() -> List[str]:
    return [*FIRST, "info"]


def flash_arguments(file: str) -> List[str]:
    """Verifying and resetting are steps of their own."""
    return [*FIRST, "flash", "--no-verify", "--no-reset", file]


def verify_arguments(file: str) -> List[str]:
    return [*FIRST, "verify", file]


def reset_arguments() -> List[str]:
    return [*FIRST, "reset"]


class WchispProgrammer(UsbTool):
    """One chip; its application begins at the start of the flash."""

    SPEC = ToolSpec(
        "wchisp", ("--version",), r"wchisp (\d+\.\d+\.\d+)", (0, 2, 2), (0, 4), "cargo install wchisp, or its releases"
    )
    BOOTLOADER = ("4348:55e0", "1a86:55e0")
    GESTURE = "hold BOOT and tap RESET (or plug it in)"

    capabilities = Capabilities(
        read_back=False,
        entries=("button", "request"),
        connection="usb",
        options=OPTIONS,
        pace=Pace(baudrate=1_000_000, chunk=56, overhead=20, fixed=5.0),
    )

    def probe(self) -> Found:
        """``chip_id`` is device type and chip id, as of ``wch_isp``; wchisp prints the chip id first."""
        self._check_alone()
        output = self.tool.run(info_arguments(), QUICK_SECONDS)
        chip = re.search(r"Chip: \S+\[0x([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})\]", output)
        uid = re.search(r"Chip UID: ((?:[0-9A-Fa-f]{2}-?)+)", output)
        if chip is None or uid is None:
            raise self.tool.complaint("tells no chip and unique id", output)
        protected = "code flash protected: true" in output.lower()
        return Found(f"{chip[2]}:{chip[1]}".lower(), uid[1].replace("-", "").lower(), protected)

    def write(self, image: bytes, progress: Progress) -> None:
        if self.probe().protected:
            raise ProtectedError(f"{self.port.name}: the chip is read-protected; `wchisp config unprotect` erases it")
        with image_file(image) as file:
            self.tool.run(flash_arguments(file), WORK_SECONDS)
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        self._check_alone()
        with image_file(image) as file:
            output = self.tool.run(verify_arguments(file), WORK_SECONDS)
        checked_output(self.tool, output, "Verify OK")
        progress(len(image), len(image))

    def _start(self) -> None:
        self._check_alone()
        self.tool.run(reset_arguments(), QUICK_SECONDS)

    def _check_alone(self) -> None:
        others = self.socket.like(list(self.BOOTLOADER)) - 1
        if others > 0:
            raise ProtocolError(
                f"{self.port.name}: {others + 1} WCH boards are in their bootloader, and wchisp can't tell which is in "
                "this socket; unplug the others"
            )
