"""Running ``make`` in a source tree: in an environment that is the same everywhere, with all that it says in a log."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import CompileError
from fleetflash.build.git import build_environment

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_TELLING = re.compile(r"\berror\b|undefined reference|overflowed|will not fit|not found", re.IGNORECASE)
_SHOWN = 300


@dataclass(frozen=True)
class Make:
    """``make`` in a tree. ``tools``: a directory to put before the system's programs; ``log`` is appended to."""

    tree: Path
    log: Path
    tools: Path | None = None

    def run(self, *targets: str) -> None:
        """Make targets; raises ``CompileError`` with what was said about the error, and where all of it is."""
        command = ["make", f"-j{os.cpu_count() or 1}", f"PYTHON={sys.executable}", *targets]
        with open(self.log, "ab") as log:
            log.write(f"$ make {' '.join(targets)}\n".encode())
            log.flush()
            start = log.tell()
            try:
                code = subprocess.run(
                    command,
                    cwd=self.tree,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                ).returncode
            except FileNotFoundError:
                raise CompileError("make is not installed: apt-get install make") from None
        if code:
            said = self.log.read_bytes()[start:].decode(errors="replace")
            raise CompileError(
                f"make {' '.join(targets)}".rstrip() + f" failed: {telling(said)}; all of it: {self.log}"
            )

    def environment(self) -> dict[str, str]:
        """Return what the build sees: ``clean_environment``, with the tools first and a home of its own."""
        path = f"{self.tools}:{_SYSTEM_PATH}" if self.tools else _SYSTEM_PATH
        return clean_environment() | {"PATH": path, "HOME": str(self.tree.parent)}


def clean_environment() -> dict[str, str]:
    """Return what every build sees, on any computer: nothing of the user's, no clock's zone, no date."""
    return build_environment(
        {
            "PATH": _SYSTEM_PATH,
            "LC_ALL": "C",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": "0",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )


def telling(said: str) -> str:
    """Return the first line that tells of an error and the last line of all, or the last three."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if _TELLING.search(line) and not line.startswith("make")]
    chosen = [*errors[:1], *lines[-1:]] if errors else lines[-3:]
    return " | ".join("".join(c if c.isprintable() else " " for c in line)[:_SHOWN] for line in chosen) or "no output"
