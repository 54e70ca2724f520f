"""What still has to be restarted, since something under it was changed while it ran.

A mark is set before the change and taken away by the restart, so a controller that dies in between leaves it for the
next run. The marks lie in /run: after a boot everything runs what lies on the disk.
"""

from pathlib import Path
from typing import List, Sequence

RUN = Path("/run/fleetflash-site")


def mark(services: Sequence[str]) -> List[str]:
    """Note that services need a restart; return those of which that was not known yet."""
    RUN.mkdir(parents=True, exist_ok=True)
    fresh = [service for service in services if not _path(service).exists()]
    for service in fresh:
        _path(service).touch()
    return fresh


def forget(services: Sequence[str]) -> None:
    for service in services:
        _path(service).unlink(missing_ok=True)


def marked(service: str) -> bool:
    return _path(service).exists()


def _path(service: str) -> Path:
    return RUN / f"restart-{service}"
