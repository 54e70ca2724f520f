"""What programmers through an external tool have in common: a board on USB itself, known by its socket.

The running firmware is asked for its bootloader by 1200 bit/s (Klipper ``docs/Bootloader_Entry.md``); there the board
is another USB device, which mostly has no serial port.
"""

import time
from typing import ClassVar, List, Mapping, Protocol, Tuple, cast

from fleetflash.agent.port import Port
from fleetflash.agent.protocols import entry as ways
from fleetflash.agent.protocols.errors import CannotReadError, NoAnswerError, ProtocolError
from fleetflash.agent.protocols.external_tool import ExternalTool, ToolSpec
from fleetflash.agent.protocols.programmer import Ask, Progress, Reopen, Target
from fleetflash.agent.schema import Entry

#: A board gets this long to be on USB again, as its bootloader or as its firmware, in seconds.
RETURN_SECONDS = 15.0
REQUESTS = 2
_PAUSE = 0.1
#: How long tools may take to read, write or compare a whole flash over USB, in seconds.
WORK_SECONDS = 300.0
QUICK_SECONDS = 30.0
OPTIONS: Mapping[str, str] = {"tool": ""}


class Socket(Port, Protocol):
    """A USB socket and what is in it now (``agent.usb_socket``)."""

    path: str

    def ids(self) -> str:
        """Return vendor and product such as ``0483:df11``; empty when nothing is there."""

    def serial(self) -> str:
        """Return the device's serial number."""

    def bus(self) -> str:
        """Return the number of its bus."""

    def number(self) -> str:
        """Return its number on the bus."""

    def tty(self) -> str:
        """Return its serial device; empty without one."""

    def like(self, ids: List[str]) -> int:
        """Return how many devices of the machine have one of these ids."""

    def touch(self) -> None:
        """Ask the firmware for its bootloader."""

    def open(self) -> Port:
        """Open its serial device; raises ``PortError``."""


class UsbTool:
    """Entering and leaving; a subclass reads and writes through its tool."""

    SPEC: ClassVar[ToolSpec]
    #: What the bootloader is on USB.
    BOOTLOADER: ClassVar[Tuple[str, ...]]
    GESTURE: ClassVar[str]

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.target = target
        self.tool = ExternalTool(self.SPEC, target.options.get("tool", ""), port.name)

    @property
    def socket(self) -> Socket:
        return cast(Socket, self.port)

    def enter(self, entry: Entry, ask: Ask) -> None:
        self.tool.check()  # before the board is disturbed
        if self._in_bootloader():
            return
        if entry.method == "request":
            for _ in range(REQUESTS):
                self.socket.touch()
                if self._comes(True):
                    return
            raise NoAnswerError(
                f"{self.port.name}: the firmware did not enter its bootloader ({' or '.join(self.BOOTLOADER)}) when "
                f'asked by 1200 bit/s, it is {self.socket.ids() or "gone"}; {self.GESTURE}, or set entry = "button"'
            )
        ways.enter_by_hand(self.port, entry, ask, self._is_entered, self.GESTURE)

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        raise ProtocolError(
            f"{self.port.name}: a read protection is not lifted through {self.SPEC.name}; do it by hand"
        )

    def read(self, progress: Progress) -> bytes:
        raise CannotReadError(f"{self.port.name}: {self.SPEC.name} does not read code flash")

    def reset(self) -> None:
        self._start()
        if not self._comes(False):
            raise NoAnswerError(f"{self.port.name}: the board is still in its bootloader; reset it by hand")

    def leave(self) -> None:
        if self._in_bootloader():
            self.reset()

    def _start(self) -> None:
        raise NotImplementedError

    def _in_bootloader(self) -> bool:
        return self.socket.ids() in self.BOOTLOADER

    def _is_entered(self, tries: int) -> bool:
        time.sleep(_PAUSE)
        return self._in_bootloader()

    def _comes(self, bootloader: bool) -> bool:
        """Whether the board is on USB as its bootloader, or as its firmware, in time."""
        deadline = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < deadline:
            if self.socket.ids() and self._in_bootloader() is bootloader:
                return True
            time.sleep(_PAUSE)
        return False


def checked_output(tool: ExternalTool, output: str, words: str) -> None:
    """Raise ``ToolError`` when a tool that ended well did not say that it did what was asked."""
    if words not in output:
        raise tool.complaint(f"did not say {words!r}", output)
