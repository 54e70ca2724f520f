"""What a pseudo-terminal does not carry: DTR and RTS, how a board wires them to RESET and BOOT0, and the parity.

All of it comes in on one socket.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.loop import Loop
from fleetflash.lab.boards.socket_server import Connection, SocketServer

TIOCMGET = 0x5415
TIOCMBIS = 0x5416
TIOCMBIC = 0x5417
TIOCMSET = 0x5418
TCGETS = 0x5401
TCSETS = 0x5402
LINES = {"dtr": 0x002, "rts": 0x004}  # TIOCM_DTR, TIOCM_RTS
ALL_LINES = 0x006

REQUEST = struct.Struct("<II")
ANSWER = struct.Struct("<I")


@dataclass(frozen=True)
class Wiring:
    """Which line at which level holds the chip in reset, and which pulls BOOT0 up. Level 1 is asserted.

    The eight combinations are those that BMCU-Klipper's ``scripts/bmcu_isp.py`` tries in turn.
    """

    reset_line: str = "rts"
    reset_level: int = 0
    boot_line: str = "dtr"
    boot_level: int = 0

    @classmethod
    def parse(cls, text: str) -> "Wiring":
        """From ``reset=rts:0,boot=dtr:0``; raises ValueError."""
        parts = dict(item.partition("=")[::2] for item in text.split(","))
        try:
            reset_line, reset_level = parts.pop("reset").split(":")
            boot_line, boot_level = parts.pop("boot").split(":")
            levels = int(reset_level), int(boot_level)
        except (KeyError, ValueError):
            raise ValueError(f"wiring {text!r}: expected e.g. reset=rts:0,boot=dtr:0") from None
        if parts or {reset_line, boot_line} != {"rts", "dtr"} or not set(levels) <= {0, 1}:
            raise ValueError(f"wiring {text!r}: reset and boot take one each of rts and dtr, levels are 0 or 1")
        return cls(reset_line, levels[0], boot_line, levels[1])

    def reset_held(self, bits: int) -> bool:
        return bool(bits & LINES[self.reset_line]) == bool(self.reset_level)

    def boot_asked(self, bits: int) -> bool:
        return bool(bits & LINES[self.boot_line]) == bool(self.boot_level)


class ModemLines:
    """The state of DTR and RTS, and the client's line settings.

    Both lines start asserted, as when a driver opens the port, unless the board says otherwise.
    """

    def __init__(self, changed: Callable[[], None], bits: int = ALL_LINES) -> None:
        self.bits = bits
        self.cflag: int | None = None  # termios flags that the client has set, once somebody has told
        self._changed = changed

    @property
    def parity(self) -> Parity | None:
        return None if self.cflag is None else Parity.of(self.cflag)

    def request(self, request: int, bits: int) -> int:
        """One TIOCM* ioctl, answered with the lines afterwards, or TCSETS/TCGETS, answered with the c_cflag."""
        if request == TCSETS and bits != self.cflag:
            self.cflag = bits
            self._changed()
        if request in (TCGETS, TCSETS):
            return self.cflag or 0
        bits &= ALL_LINES
        wanted = {
            TIOCMBIS: self.bits | bits,
            TIOCMBIC: self.bits & ~bits,
            TIOCMSET: bits,
        }.get(request, self.bits)
        if wanted != self.bits:
            self.bits = wanted
            self._changed()
        return self.bits


class ModemServer:
    """The ``--serial-lines`` socket: 8 bytes in (request, bits), 4 out (the lines now), little-endian."""

    def __init__(self, loop: Loop, path: Path, lines: ModemLines) -> None:
        self._lines = lines
        self._server = SocketServer(loop, path, self._received)

    def close(self) -> None:
        self._server.close()

    def _received(self, connection: Connection) -> None:
        while len(connection.buffer) >= REQUEST.size:
            request, bits = REQUEST.unpack_from(connection.buffer)
            del connection.buffer[: REQUEST.size]
            connection.send(ANSWER.pack(self._lines.request(request, bits)))
