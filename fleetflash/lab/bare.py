"""A host as its Debian was installed, before anybody has put Klipper on it."""

import shutil
from pathlib import Path

_HOME = ("klipper", "klippy-env", "moonraker", "moonraker-env", "printer_data")
_SERVICES = ("klipper.service", "moonraker.service")
_PORT_GROUPS = ("dialout", "tty")


def strip(root: Path) -> None:
    """Take away what the recipe has put into the root file system beside Debian's own."""
    for name in _HOME:
        shutil.rmtree(root / "home/pi" / name)
    units = root / "etc/systemd/system"
    for service in _SERVICES:
        (units / service).unlink()
        (units / "multi-user.target.wants" / service).unlink()
    for name in ("group", "gshadow"):
        path = root / "etc" / name
        path.write_text("".join(_without_members(line) for line in path.read_text().splitlines(keepends=True)))


def _without_members(line: str) -> str:
    fields = line.rstrip("\n").split(":")
    return ":".join([*fields[:-1], ""]) + "\n" if fields[0] in _PORT_GROUPS else line
