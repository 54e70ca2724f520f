"""Running programs: short ones whose failure is an error, and long ones that outlive the caller."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fleetflash.lab.errors import LabError

# A shell does the joining, so that nothing runs between fork and exec in a threaded caller.
_JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
# The shell itself joins, so that the group is populated when the caller hears of it.
_DETACH = (
    'log=$1; shift; while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; '
    'setsid "$@" </dev/null >>"$log" 2>&1 & echo $!'
)


def run(*argv: str | Path, stdin: str = "", keep: Sequence[int] = ()) -> str:
    """Run to the end, with the descriptors ``keep`` open; returns stdout.

    A failure is a LabError with the last line of its stderr.
    """
    command = [str(part) for part in argv]
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, pass_fds=keep)
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise LabError(f"{Path(argv[0]).name} {argv[1] if len(argv) > 1 else ''}: {said[-1] if said else 'failed'}")
    return result.stdout


def attempt(*argv: str | Path) -> bool:
    """Run something that may well fail, such as removing what may not be there."""
    return subprocess.run([str(part) for part in argv], capture_output=True).returncode == 0


def inside(groups: Sequence[Path], argv: Sequence[str | Path]) -> list[str]:
    """The command that joins these control groups and then becomes ``argv``."""
    return ["sh", "-c", _JOIN, "sh", *map(str, groups), "--", *map(str, argv)]


def detach(groups: Sequence[Path], argv: Sequence[str | Path], log: Path) -> int:
    """Start a program in these control groups and a session of its own, adopted by init; returns its pid."""
    started = subprocess.run(
        ["sh", "-c", _DETACH, "sh", str(log), *map(str, groups), "--", *map(str, argv)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=python_env(),
        cwd="/",
    )
    if started.returncode:
        raise LabError(f"cannot start {argv[0]}: {started.stderr.strip()}")
    return int(started.stdout)


def python(*arguments: str | Path) -> list[str]:
    """A command line for this interpreter."""
    return [sys.executable, *map(str, arguments)]


def python_env() -> dict[str, str]:
    """An environment in which this interpreter finds this fleetflash from any directory, and little else."""
    package = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ")}
    return {**kept, "PYTHONPATH": package}


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log as one line, for an error message."""
    try:
        text = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "(no log)"
    return " / ".join(text[-lines:]) or "(empty log)"
