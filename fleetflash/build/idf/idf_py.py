"""Running ``idf.py`` and what else ESP-IDF brings in a project, with all that it says in a log without secrets."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import CompileError
from fleetflash.build.git import build_environment
from fleetflash.build.idf.environment import Idf
from fleetflash.secret import Secret, redact

_TELLING = re.compile(r"error\b|undefined reference|overflowed|will not fit|not found|too small", re.IGNORECASE)
_SHOWN = 300


@dataclass(frozen=True)
class IdfPy:
    """ESP-IDF in a project. ``home``: a directory of the build's own, 0700 and gone afterwards, for what tools write.

    ``components``: a directory that is kept, for managed components. ``log`` is appended to, secrets taken out.
    """

    idf: Idf
    target: str
    project: Path
    home: Path
    components: Path
    log: Path
    secrets: Sequence[Secret] = ()

    def run(self, *command: str) -> str:
        """Run a program and return what it said, without secrets; raises ``CompileError`` with the error it told of."""
        said: list[str] = []
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.project,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                )
            except OSError as error:
                raise CompileError(f"{command[0]}: {error.strerror or error}; is it a program of ESP-IDF?") from None
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    clean = redact(line, self.secrets)
                    log.write(clean)
                    said.append(clean)
        if process.returncode:
            raise CompileError(f"{_shown(command)} failed: {_telling(said)}; all of it: {self.log}")
        return "".join(said)

    def environment(self) -> dict[str, str]:
        """Return what the build sees: ESP-IDF's environment, nothing of the user's, no clock's zone, no date."""
        variables: Mapping[str, str] = {
            **self.idf.variables,
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "IDF_TARGET": self.target,
            "IDF_COMPONENT_CACHE_PATH": str(self.components),
            "IDF_CCACHE_ENABLE": "0",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": "0",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return build_environment(variables)


def _shown(command: Sequence[str]) -> str:
    """Return a command without CMake's variables, which are long and the same each time."""
    return " ".join(word for word, before in zip(command, ("", *command), strict=False) if "-D" not in (word, before))


def _telling(said: Sequence[str]) -> str:
    """Return the first line that tells of an error and the last line of all, or the last three.

    What is indented is code that is shown, of a traceback for example.
    """
    lines = [line.rstrip() for line in said if line.strip()]
    errors = [line for line in lines if _TELLING.search(line) and not line[0].isspace()]
    chosen = dict.fromkeys([*errors[:1], *lines[-1:]] if errors else lines[-3:])
    return (
        " | ".join("".join(c if c.isprintable() else " " for c in line).strip()[:_SHOWN] for line in chosen)
        or "no output"
    )
