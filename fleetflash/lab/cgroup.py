"""Control groups: one per host, board and link, so that ending a lab ends exactly what it started.

systemd inside a host needs a group of its own in every hierarchy that systemd-nspawn delegates: on a hybrid
machine the cgroup2 tree and v1's ``name=systemd``, on a pure cgroup2 machine the one tree.
"""

import os
import signal
import time
from pathlib import Path

from fleetflash.lab.errors import LabError

_MOUNT = Path("/sys/fs/cgroup")


def roots() -> list[Path]:
    """The hierarchies in which groups are made; the first is the cgroup2 one."""
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    return [path for path in (_MOUNT / "unified", _MOUNT / "systemd") if path.is_dir()]


def create(group: str) -> list[Path]:
    """Make the group in every hierarchy; returns its directories."""
    paths = [root / group for root in roots()]
    if not paths:
        raise LabError("no cgroup2 hierarchy is mounted under /sys/fs/cgroup")
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    return paths


def pids(group: str) -> set[int]:
    """Processes in the group and below it."""
    found: set[int] = set()
    for root in roots():
        for directory, _, _ in os.walk(root / group):
            try:
                found.update(int(line) for line in (Path(directory) / "cgroup.procs").read_text().split())
            except OSError:
                continue  # the group went away while we looked
    return found


def kill(group: str, timeout: float = 10.0) -> None:
    """SIGKILL everything in the group at once and wait until it is gone."""
    switch = roots()[0] / group / "cgroup.kill" if roots() else None
    deadline = time.monotonic() + timeout
    while alive := pids(group):
        if switch is not None and switch.exists():
            switch.write_text("1")
        else:
            for pid in alive:
                _signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes {sorted(alive)} of {group} do not end")
        time.sleep(0.01)


def terminate(group: str, timeout: float) -> None:
    """SIGTERM everything in the group; what is still there after ``timeout`` seconds is killed."""
    for pid in pids(group):
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while pids(group) and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(group)


def remove(group: str) -> None:
    """Remove the emptied group with everything below it."""
    for root in roots():
        for directory, _, _ in os.walk(root / group, topdown=False):
            for _ in range(100):
                try:
                    Path(directory).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)  # the kernel takes a moment to forget the dead


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
