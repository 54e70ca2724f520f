"""What an ESP chip says while it boots: which application it starts, or why it starts none.

Sources: ESP-IDF guide, "Application Startup Flow" and "Fatal Errors"; ``esp_system/startup_funcs.c`` and
``esp_app_format`` for the lines that tell project, version and hash (``cpu_start`` in version 5.0, ``app_init`` since);
"ESP32 ROM console" and ``rtc.h`` for the banner of the ROM, ``rst:0x1 (POWERON_RESET),boot:0x13 (…)``. Bootloaders and
applications may be configured to say nothing at all.
"""

import re
import time
from dataclasses import dataclass
from typing import Callable, List, Optional

from fleetflash.agent.port import LineStep, Port

#: EN low, IO0 high by the two transistors of Espressif's boards, then both let go.
HOLD: List[LineStep] = [(False, True, 0.1)]
RELEASE: List[LineStep] = [(False, False, 0.0)]
RESET: List[LineStep] = [*HOLD, *RELEASE]

#: An application that starts is silent about it, or has said its version, within this many seconds.
BOOT_SECONDS = 8.0
#: What has started so lately, in seconds, may still fall.
SETTLE_SECONDS = 1.5
#: A chip that has started as often in that time restarts again and again.
MOST_STARTS = 3
_PIECE = 4096
#: Seconds that one look at the port takes: how exactly it is known when something came.
_LOOK = 0.02
_MOST_BYTES = 256 * 1024

#: ESP-IDF's CONFIG_LOG_COLORS wraps every line in these.
_COLOR = re.compile(rb"\x1b\[[0-9;]*m")
_STARTS = re.compile(rb"rst:0x[0-9a-f]+ \(\w+\)")
_VERSION = re.compile(rb"App version:[ \t]+([^\r\n]*\S)[ \t]*[\r\n]")
_PROJECT = re.compile(rb"Project name:[ \t]+([^\r\n]*\S)[ \t]*[\r\n]")
_HASH = re.compile(rb"ELF file SHA256:\s+([0-9a-f]{8,64})")
_TROUBLE = re.compile(
    rb"(Guru Meditation Error[^\r\n]*|Brownout detector was triggered|abort\(\) was called[^\r\n]*"
    rb"|No bootable app partitions[^\r\n]*|invalid header: 0x[0-9a-f]+|waiting for download)"
)


@dataclass(frozen=True)
class BootLog:
    """``version``, ``project`` and ``elf_sha256`` (its beginning) are empty where the log tells none.

    ``trouble``: the line that says that no application runs, or why it does not stay.
    """

    version: str = ""
    project: str = ""
    elf_sha256: str = ""
    trouble: str = ""


def watch(port: Port, seconds: float = BOOT_SECONDS, heard: Optional[Callable[[float, bytes], None]] = None) -> BootLog:
    """Reset the chip and listen until its application has named itself and stayed, or for ``seconds``.

    ``heard``: is told everything that comes, with the seconds since the reset. Raises ``PortError``.
    """
    reset(port)
    began = time.monotonic()
    deadline = began + seconds
    log, found, named = b"", BootLog(), False
    while time.monotonic() < deadline and len(log) < _MOST_BYTES and not found.trouble:
        data = port.read(_PIECE, _LOOK)
        if not data:
            continue
        log += data
        if heard is not None:
            heard(time.monotonic() - began, data)
        found = read(log)
        if not named and found.version and found.elf_sha256:
            named = True
            deadline = time.monotonic() + SETTLE_SECONDS
    return found


def reset(port: Port) -> None:
    """Reset a chip. What it has said before is dropped while it can't say anything, so its boot comes first."""
    port.play(HOLD)
    port.discard_input()
    port.play(RELEASE)


def read(log: bytes) -> BootLog:
    """Say what a boot log tells."""
    log = _COLOR.sub(b"", log)
    trouble = _TROUBLE.search(log)
    starts = _STARTS.findall(log)
    text = _text(trouble[1]) if trouble else ""
    if not text and len(starts) >= MOST_STARTS:
        text = f"it restarts again and again ({_text(starts[-1])})"
    version, project, digest = _VERSION.search(log), _PROJECT.search(log), _HASH.search(log)
    return BootLog(
        version=_text(version[1]) if version else "",
        project=_text(project[1]) if project else "",
        elf_sha256=_text(digest[1]) if digest else "",
        trouble=text,
    )


def _text(found: bytes) -> str:
    return found.decode("utf-8", "replace")
