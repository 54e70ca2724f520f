"""What a host is: its operating system, its Python, its power supply, and the versions of what runs there."""

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Dict, Optional

from fleetflash.agent import klippy, log_tail, moonraker_facts
from fleetflash.agent.schema import STATE
from fleetflash.agent.tools import environment as tool_environment

#: The Raspberry Pi's firmware says here what its power supply has done (Raspberry Pi documentation, ``vcgencmd
#: get_throttled``: bit 0 under-voltage now, bit 16 under-voltage since the boot).
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")


def describe() -> Dict[str, str]:
    """Return operating system, kernel, Python, seconds since boot, load and free disk; nothing that is not there."""
    facts = {
        "os": _release(Path("/etc/os-release")),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "python path": sys.executable,
        "uptime": f"{_first_word(Path('/proc/uptime'))} s",
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "disk": _disk(),
        "user": str(os.geteuid()),
    }
    throttled = _first_word(THROTTLED)
    if throttled:
        facts["throttled"] = throttled
    return facts


def versions(socket: str, moonraker: Dict[str, str]) -> Dict[str, str]:
    """Return program → version, or in brackets why there is none.

    ``socket``: klippy's, empty where there is no Klipper; ``moonraker``: what ``moonraker_facts`` has found.
    """
    found = {"systemd": _first_line("systemctl", "--version"), "git": _first_line("git", "--version")}
    if socket:
        found["klippy"] = _klippy(socket)
    if moonraker:
        found["moonraker"] = moonraker.get(moonraker_facts.VERSION) or f"({moonraker[moonraker_facts.ERROR]})"
    try:
        found["esptool"] = tool_environment.find().version
    except tool_environment.ToolError:
        found["esptool"] = "(not installed)"
    return found


def _klippy(socket: str) -> str:
    try:
        return klippy.status(socket).version
    except klippy.KlippyError as error:
        return f"({error})"


def _release(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    names = [line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")]
    return names[0] if names else "unknown"


def _disk(root: Path = Path(STATE)) -> str:
    existing: Optional[Path] = next(path for path in (root, *root.parents) if path.exists())
    usage = shutil.disk_usage(str(existing))
    return f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB"


def _first_word(path: Path) -> str:
    try:
        return path.read_text().split()[0]
    except (OSError, IndexError):
        return ""


def _first_line(*command: str) -> str:
    found = log_tail.of_command(command)
    return found.lines[0] if found.lines else f"({found.error})"
