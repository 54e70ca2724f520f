"""The pseudo-terminal of a process on this host, such as Klipper's ``klipper_mcu`` at /tmp/klipper_host_mcu.

The process has both ends open (Klipper ``src/linux/console.c``); keeping its own port open does not make it a holder.
"""

import os
import re
import time
from pathlib import Path
from typing import FrozenSet, List, Tuple

from fleetflash.agent.holders import holders
from fleetflash.agent.port import LineStep, PortAbsentError, PortError
from fleetflash.agent.ports import SerialPort

_PAUSE = 0.1


class NoPort:
    """Stands for a port where there is none to speak through; implements ``port.Port``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""

    def read(self, size: int, timeout: float) -> bytes:
        raise PortError(f"{self.name}: there is no port to read from")

    def write(self, data: bytes) -> None:
        raise PortError(f"{self.name}: there is no port to write to")

    def discard_input(self) -> None:
        """Nothing comes in."""

    def set_baudrate(self, baudrate: int) -> None:
        """There is no rate."""

    def set_parity(self, parity: str) -> None:
        """There is no parity."""

    def play(self, steps: List[LineStep]) -> None:
        """There are no modem lines."""

    def close(self) -> None:
        """Nothing is open."""


def open_offered(path: str, baud: int, seconds: float) -> SerialPort:
    """Open a pseudo-terminal that a process offers; one that is starting has ``seconds`` to do so.

    Raises ``PortError``, and ``PortAbsentError`` when there is none. The name of a process that ended may lead to
    another one's terminal, which is refused as held.
    """
    deadline = time.monotonic() + seconds
    while True:
        device = os.path.realpath(path)
        try:
            return SerialPort.open(device, baud, offered_by=offerers(device))
        except PortError as error:
            if time.monotonic() >= deadline:
                kind = PortError if os.path.exists(device) else PortAbsentError
                raise kind(f"{path}: {error}") from None
        time.sleep(_PAUSE)


def others(device: str) -> List[Tuple[int, str]]:
    """Return (pid, command) of who holds a pseudo-terminal beside the process that offers it."""
    device = os.path.realpath(device)
    own = offerers(device)
    return [(pid, command) for pid, command in holders(device) if pid not in own]


def offerers(device: str, proc: Path = Path("/proc")) -> FrozenSet[int]:
    """Return the processes that have the other end of a pseudo-terminal open.

    The kernel names a terminal's number in the fdinfo of its other end (``proc_pid_fdinfo(5)``, tty-index). Only root
    sees that of other users' processes.
    """
    number = re.fullmatch(r"/dev/pts/([0-9]+)", device)
    processes = [path for path in proc.iterdir() if path.name.isdigit()] if number else []
    return frozenset(int(path.name) for path in processes if number and _offers(path, number[1]))


def _offers(process: Path, number: str) -> bool:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return False
    for link in links:
        try:
            if str(link.readlink()).endswith("ptmx"):
                info = (process / "fdinfo" / link.name).read_text()
                if re.search(rf"^tty-index:\s*{number}$", info, re.MULTILINE):
                    return True
        except OSError:
            continue
    return False
