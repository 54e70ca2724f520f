"""What the machine must have before a lab can start; every lack is one clear line."""

import os
import shutil
from pathlib import Path

from fleetflash.lab import rootfs
from fleetflash.lab.errors import LabError

_RUNNING = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "setsid": "util-linux",
    "mount": "mount",
}
_BUILDING = {"mmdebstrap": "mmdebstrap", "gcc": "gcc"}


def check_root() -> None:
    if os.geteuid() != 0:
        raise LabError("needs root for namespaces and mounts: run it with sudo")


def check(delays: bool) -> None:
    """Raise LabError with the Debian packages to install; ``delays`` when some link has a delay."""
    check_root()
    wanted = dict(_RUNNING)
    missing: list[str] = []
    if not rootfs.path().is_dir():
        wanted |= _BUILDING
        if not (Path("/usr/include/stdio.h").exists()):
            missing.append("libc6-dev")
    missing += [package for program, package in wanted.items() if not shutil.which(program)]
    if missing:
        raise LabError(f"missing Debian packages: apt install {' '.join(dict.fromkeys(missing))}")
    if delays and not Path("/dev/net/tun").exists():
        raise LabError("a link with a delay needs /dev/net/tun: modprobe tun")
