"""The Klippers that run on a host: several may run from one checkout, which then is nobody's alone to move."""

from pathlib import Path
from typing import List

from fleetflash.agent import systemd
from fleetflash.agent.systemd import SystemdError

PROC = Path("/proc")
PROGRAM = "klippy/klippy.py"


def others(checkout: Path, service: str) -> List[int]:
    """Return the processes that run klippy from a checkout and are not the service's own.

    Source: proc(5), ``/proc/<pid>/cmdline``: arguments, each ended by a zero byte.
    """
    program = (checkout / PROGRAM).resolve()
    found = []
    for path in PROC.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if any(word.endswith(PROGRAM.encode()) and Path(word.decode()).resolve() == program for word in words[:3]):
            found.append(int(path.parent.name))
    try:
        own = systemd.show(service, ["MainPID"]).get("MainPID", "") if service and found else ""
    except SystemdError:
        own = ""
    return sorted(pid for pid in found if str(pid) != own)
