"""ESP32 chips through Espressif's esptool, which runs in a process beside the agent.

An image is an archive of ``flash_parts``: bootloader, partition table, applications and filesystems at their offsets.
What lies between them, such as the settings that the firmware has stored, stays; and what the flash holds already is
not written again. A read-back is one part: the whole flash.

Source: esptool's documentation, "Scripting" (its library) and "Boot Mode Selection" (how DTR and RTS bring a chip into
its ROM loader and out of it).
"""

import time
from typing import Callable, NoReturn, Optional, cast

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.protocols import esp_boot_log
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.schema import Entry
from fleetflash.agent.tools import environment
from fleetflash.agent.tools.process import Report, Tool, ToolProcess

#: The line's rate while flash is read and written, in bit/s: what the usual bridges and cables stand.
RATE = 460_800
#: What can't be asked: such a chip has no ROM loader.
DISABLED = "a chip whose download mode was disabled for ever never answers; that one can only be updated over the air"
#: esptool's own resets are tried this often.
ATTEMPTS = 7
#: What may be burnt into a chip that keeps its hands off.
SECURITY = {
    "secure_download": "secure download mode is burnt into this chip: nothing can be compared; update it over the air",
    "encrypted": "flash encryption is burnt into this chip, and a plain image would brick it; update it over the air",
}


def start_here(port: Port) -> Tool:
    """Close the port and start esptool on it; raises ``ProtocolError`` where there is no esptool."""
    try:
        found = environment.find()
    except environment.ToolError as error:
        raise ProtocolError(f"{port.name}: {error}") from None
    port.close()
    return ToolProcess([found.python, "-m", "fleetflash.agent.tools.esptool_worker", port.address], port.name)


class PortOfTool:
    """Stands for a port that a tool has open: closing it ends the tool."""

    def __init__(self, name: str, address: str, tool: Tool):
        self.name = name
        self.address = address
        self._tool = tool

    def close(self) -> None:
        self._tool.close()

    def __getattr__(self, attribute: str) -> NoReturn:
        raise PortError(f"{self.name}: esptool has this port")


class EsptoolProgrammer:
    """One ESP chip. While esptool has its port, ``port`` only stands for it."""

    DEFAULT_GESTURE = "hold BOOT, tap EN (or RESET), let go of BOOT"

    capabilities = Capabilities(
        read_back=True,
        entries=("lines", "button"),
        pace=Pace(baudrate=RATE, chunk=16 * 1024, overhead=160, fixed=6.0, passes=1),
        parts=True,
        tool=True,
        klipper=False,
        baudrate=115_200,
    )

    #: Has a tool take a port over.
    start_tool: Callable[[Port], Tool] = staticmethod(start_here)

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.reopen = reopen
        self._tool: Optional[Tool] = None
        self._found: Optional[Found] = None
        self._problem = ""
        self._mode = "lines"

    def enter(self, entry: Entry, ask: Ask) -> None:
        if entry.method == "lines":
            self._start()
            self._mode = "lines"
            try:
                self._connect(ATTEMPTS)
            except NoAnswerError as error:
                raise NoAnswerError(f"{error}; check that DTR and RTS lead to EN and BOOT; {DISABLED}") from None
            return
        self._mode = "held"
        # Asked first: while a port is lent, the follower carries its frames and no events.
        ask(entry.gesture or self.DEFAULT_GESTURE, entry.deadline)
        self._start()
        deadline = time.monotonic() + entry.deadline
        while True:
            try:
                self._connect(1)
                return
            except NoAnswerError:
                if time.monotonic() > deadline:
                    raise NoAnswerError(
                        f"{self.port.name}: nobody brought the board into its ROM loader within {entry.deadline:g} s; "
                        f"{DISABLED}"
                    ) from None

    def probe(self) -> Found:
        if self._found is None:
            raise ProtocolError(f"{self.port.name}: the chip was not asked yet")
        if self._problem:
            raise ProtectedError(f"{self.port.name}: {self._problem}")
        return self._found

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        raise ProtocolError(f"{self.port.name}: what is burnt into an ESP chip stays; leave unprotect out")

    def read(self, progress: Progress) -> bytes:
        self.probe()
        return self._call("read", b"", progress)

    def write(self, image: bytes, progress: Progress) -> None:
        self.probe()
        self._call("write", image, progress)

    def verify(self, image: bytes, progress: Progress) -> None:
        self._call("verify", image, progress)

    def reset(self) -> None:
        try:
            if self._tool is not None:
                self._tool.call("reset", mode=self._mode)
        finally:
            self._end()

    def leave(self) -> None:
        """Reset it: an application starts anew, which harms no gateway."""
        self._end()
        self.port.play(esp_boot_log.RESET)

    def _start(self) -> None:
        self._end()
        self._tool = self.start_tool(self.port)
        self.port = cast(Port, PortOfTool(self.port.name, self.port.address, self._tool))

    def _end(self) -> None:
        """Take the port back from esptool."""
        if self._tool is None:
            return
        self._tool.close()
        self._tool = None
        self._found = None
        self.port = self.reopen()

    def _connect(self, attempts: int) -> None:
        assert self._tool is not None
        answer, _ = self._tool.call("connect", mode=self._mode, attempts=attempts, rate=RATE)
        self._found = Found(chip_id=str(answer["chip"]), uid=str(answer["mac"]))
        self._problem = SECURITY.get(next((burnt for burnt in SECURITY if answer[burnt]), ""), "")

    def _call(self, operation: str, data: bytes, progress: Progress) -> bytes:
        if self._tool is None:
            raise ProtocolError(f"{self.port.name}: the chip is not in its ROM loader")
        report: Report = lambda phase, done, total: progress(done, total)  # noqa: E731
        return self._tool.call(operation, data, report)[1]
