"""systemd, as far as the agent needs it: a thin layer over ``systemctl``."""

import subprocess
from typing import Dict, List, Sequence

#: ``systemctl stop`` waits for the unit's own TimeoutStopSec (90 s by default) before it kills.
STOP_TIMEOUT = 180.0
ACTIVE_STATES = ("active", "activating", "reloading")
GONE_STATES = ("inactive", "failed")


class SystemdError(Exception):
    """systemctl refused or failed. The message holds the command and what it said."""


def systemctl(*arguments: str, timeout: float = 60.0) -> str:
    return _run(["systemctl", *arguments], timeout)


def show(unit: str, properties: Sequence[str]) -> Dict[str, str]:
    """Return properties of a unit; a unit that doesn't exist has ``LoadState=not-found``."""
    output = systemctl("show", unit, "--no-pager", "--property=" + ",".join(properties))
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def show_all(units: Sequence[str], properties: Sequence[str]) -> Dict[str, Dict[str, str]]:
    """As ``show`` for each of these units, asked at once."""
    output = systemctl("show", *units, "--no-pager", "--property=" + ",".join(properties)) if units else ""
    # An empty line lies between units, which come in the order in which they were asked for.
    blocks = [block for block in output.split("\n\n") if block.strip()]
    if len(blocks) != len(units):
        raise SystemdError(f"systemctl show {' '.join(units)}: {len(blocks)} answers for {len(units)} units")
    return {
        unit: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for unit, block in zip(units, blocks)
    }


def stop(unit: str) -> None:
    """Stop a unit; returns when all its processes are gone."""
    systemctl("stop", unit, timeout=STOP_TIMEOUT)


def start(unit: str, wait: bool = True) -> None:
    """Start a unit; without ``wait`` systemd is only told to."""
    try:
        systemctl("reset-failed", unit)
    except SystemdError:
        pass  # systemd has unloaded a unit that nothing refers to: it has no failures to forget
    systemctl("start", *([] if wait else ["--no-block"]), unit)


def is_active(unit: str) -> bool:
    return show(unit, ["ActiveState"]).get("ActiveState") in ACTIVE_STATES


def is_gone(unit: str) -> bool:
    """Whether a unit has ended, its ``ExecStopPost`` lines included."""
    return show(unit, ["ActiveState"]).get("ActiveState", "inactive") in GONE_STATES


def run_transient(unit: str, properties: List[str], command: List[str]) -> None:
    """Start ``command`` as a transient service; raises ``SystemdError`` when a unit of that name exists already."""
    arguments = ["systemd-run", "--quiet", f"--unit={unit}", "--collect"]
    arguments += [f"--property={item}" for item in properties]
    _run([*arguments, "--", *command], 30.0)


def _run(command: List[str], timeout: float) -> str:
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            universal_newlines=True,
        )
    except FileNotFoundError as error:
        raise SystemdError(f"{command[0]} is not on this host: it does not run systemd") from error
    except subprocess.TimeoutExpired as error:
        raise SystemdError(f"{' '.join(command)}: no answer within {timeout:g} s") from error
    if result.returncode:
        raise SystemdError(f"{' '.join(command)}: {result.stderr.strip() or f'exit code {result.returncode}'}")
    return result.stdout
