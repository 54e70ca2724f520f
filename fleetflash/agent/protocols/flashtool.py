"""A board behind Katapult on USB, through Katapult's own ``flashtool.py``.

Source of the facts: ``scripts/flashtool.py`` and ``README.md`` of Katapult (arguments, output). It has no version, and
is known by what its help offers: ``--status``, which connects and writes nothing. The same as ``katapult``, which needs
no tool and reads the old firmware back; flashtool.py does not.
"""

import re
from typing import List

from fleetflash.agent.port import PortError
from fleetflash.agent.protocols import katapult
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, WrongChipError
from fleetflash.agent.protocols.external_tool import ToolSpec, image_file
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Progress
from fleetflash.agent.protocols.usb_tool import OPTIONS, QUICK_SECONDS, WORK_SECONDS, UsbTool, checked_output

WRITTEN = "Verification Complete"


def status_arguments(device: str) -> List[str]:
    return ["-d", device, "-s"]


def flash_arguments(device: str, file: str) -> List[str]:
    return ["-d", device, "-f", file]


class FlashtoolProgrammer(UsbTool):
    """flashtool.py writes, reads back for its own check and starts the application in one go."""

    SPEC = ToolSpec(
        "flashtool.py",
        ("--help",),
        r"(Katapult Flash Tool)[\s\S]*--status",
        (),
        (1,),
        "it is Katapult's scripts/flashtool.py",
    )
    BOOTLOADER = ("1d50:6177",)
    GESTURE = "press RESET twice within half a second"

    capabilities = Capabilities(
        read_back=False,
        entries=("request", "button"),
        tells_uid=False,
        connection="usb",
        options=OPTIONS,
        pace=Pace(baudrate=2_000_000, chunk=64, overhead=28, fixed=8.0, busy=0.002),
    )

    def probe(self) -> Found:
        output = self.tool.run(status_arguments(self._device()), QUICK_SECONDS)
        mcu = re.search(r"^MCU type: (\S+)", output, re.MULTILINE)
        start = re.search(r"^Application Start: (0x[0-9A-Fa-f]+)", output, re.MULTILINE)
        if mcu is None or start is None:
            raise self.tool.complaint("tells no MCU type and application start", output)
        if int(start[1], 16) != self.target.start:
            offset = int(start[1], 16) - self.target.base
            raise WrongChipError(
                f"{self.port.name}: this Katapult starts applications at {start[1]}, expected "
                f"{self.target.start:#010x}; nothing was erased. Set flash_offset = {offset:#x} for this board"
            )
        return Found(mcu[1].lower(), "")

    def write(self, image: bytes, progress: Progress) -> None:
        with image_file(image) as file:
            output = self.tool.run(flash_arguments(self._device(), file), WORK_SECONDS)
        checked_output(self.tool, output, WRITTEN)
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        """``write`` ends with it, and the board runs its application since."""
        progress(len(image), len(image))

    def reset(self) -> None:
        """``write`` ends with it; a board that was only asked for its status waits."""
        if self._in_bootloader():
            self._start()
        if not self._comes(False):
            raise NoAnswerError(f"{self.port.name}: the board is still in Katapult; reset it by hand")

    def _start(self) -> None:
        """flashtool.py leaves Katapult only after it has written."""
        try:
            port = self.socket.open()
        except PortError:
            return  # it is about to leave by itself
        try:
            katapult.Katapult(port).complete()
        except (PortError, ProtocolError):
            pass  # whether it has left is seen on USB
        finally:
            port.close()

    def _device(self) -> str:
        device = self.socket.tty()
        if not device:
            raise ProtocolError(f"{self.port.name}: no serial device is there, but {self.socket.ids() or 'nothing'}")
        return device
