"""What the kernel said about serial ports, their USB sockets and the power supply."""

import os
import re
from pathlib import Path
from typing import List, Sequence, Set

from fleetflash.agent import log_tail
from fleetflash.agent.schema import Excerpt

#: As many lines of the kernel's log are searched.
SEARCHED = 4000
#: What concerns every board of a host, e.g. "hwmon hwmon1: Undervoltage detected!" of a Raspberry Pi.
_POWER_AND_DISK = (
    r"under-?voltage|voltage normali[sz]ed|over-?current|out of memory|oom-kill|I/O error|EXT4-fs error|No space left"
)


def about(ports: Sequence[str]) -> Excerpt:
    """Return the kernel's last lines about ``ports`` (their names, as in the inventory), power and disk."""
    found = log_tail.of_command(["journalctl", "-k", "-b", "--no-pager", "-q", "-o", "short-iso"], SEARCHED)
    if not found.lines:
        # A host without a persistent journal, or a user who may not read it.
        found = log_tail.of_command(["dmesg"], SEARCHED)
    words = [re.escape(word) + r"\b" for word in sorted(names_of(ports))]
    pattern = re.compile("|".join([*words, _POWER_AND_DISK]), re.IGNORECASE)
    return Excerpt(found.source, [line for line in found.lines if pattern.search(line)][-log_tail.LINES :], found.error)


def names_of(ports: Sequence[str], sys: Path = Path("/sys")) -> Set[str]:
    """Return what the kernel calls ports: ``ttyUSB0``, and ``1-1.2`` or ``-1.2`` for the USB socket.

    ``-1.2`` is the end of any bus's socket of that place: all that is known of a board that is unplugged (systemd,
    ``udev-builtin-path_id.c``: ``usb-0:1.2:1.0`` is the device's name behind its bus).
    """
    found = set()
    for port in ports:
        device = Path(os.path.realpath(port))
        if device.exists():
            found.add(device.name)
            found |= _sockets(sys / "class/tty" / device.name / "device")
        socket = re.search(r"-usb(?:v2|v3)?-\d+:([\d.]+):", port)
        if socket:
            found.add(f"-{socket[1]}")
    return found


def _sockets(link: Path) -> Set[str]:
    directory = Path(os.path.realpath(str(link)))
    names: List[str] = [part for part in directory.parts if re.fullmatch(r"\d+-[\d.]+", part)]
    return set(names[-1:])
