"""Another program of the host that flashes: found, its version checked, run with a deadline, its words kept.

What it says goes line by line to standard error, which under a transaction is the journal of ``fleetflash.service``;
the last lines are part of every error, and so of the transaction's own record.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from fleetflash.agent.protocols.errors import ProtocolError

VERSION_SECONDS = 20.0
#: Lines of output that an error carries.
LAST_LINES = 6
_LINE_LENGTH = 200


class ToolError(ProtocolError):
    """The tool failed. The message names tool, version, exit code and the last of what it said."""


class ToolMissingError(ToolError):
    """The tool is not on the host."""


class ToolVersionError(ToolError):
    """The tool is another version than those that are known."""


@dataclass(frozen=True)
class ToolSpec:
    """``name``: its executable. ``version_arguments`` make it say its version, the group of ``version_pattern``.

    ``oldest`` to before ``newest`` are the versions whose arguments and output are known. ``get``: how it is installed.
    """

    name: str
    version_arguments: Tuple[str, ...]
    version_pattern: str
    oldest: Tuple[int, ...]
    newest: Tuple[int, ...]
    get: str


class ExternalTool:
    """A tool at ``path``, or found on PATH when that is empty. ``where``: the board's port, for messages."""

    def __init__(self, spec: ToolSpec, path: str, where: str) -> None:
        self.spec = spec
        self.where = where
        self._path = path
        self._found: Optional[Tuple[str, str]] = None

    def check(self) -> str:
        """Find the tool and return its version; raises ``ToolMissingError`` or ``ToolVersionError``."""
        return self._checked()[1]

    def run(self, arguments: List[str], seconds: float, allowed: Tuple[int, ...] = (0,)) -> str:
        """Run the tool, in a process group of its own, and return what it said; raises ``ToolError``.

        + allowed: exit codes that mean success
        """
        path, version = self._checked()
        code, output = _run([path, *arguments], seconds)
        if code is None:
            raise self._error(f"{version} did not end within {seconds:g} s and was killed", output)
        if code not in allowed:
            raise self._error(f"{version} ended with exit code {code}", output)
        return output

    def complaint(self, what: str, output: str) -> ToolError:
        """Return the error for output that isn't what a run of success says."""
        return self._error(f"{self.check()}: {what}", output)

    def _checked(self) -> Tuple[str, str]:
        if self._found is None:
            path = self._find()
            code, output = _run([path, *self.spec.version_arguments], VERSION_SECONDS)
            found = re.search(self.spec.version_pattern, output)
            if code != 0 or found is None:
                raise self._error("does not say its version", output)
            version = found[1]
            numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
            if not self.spec.oldest <= numbers < self.spec.newest:
                known = f"{_dotted(self.spec.oldest)} to before {_dotted(self.spec.newest)}"
                raise ToolVersionError(
                    f"{self.where}: {path} is version {version}; its arguments are known of {known}. Install one of "
                    "those, and name its path in options (tool) when it isn't the first on PATH"
                )
            self._found = path, version
        return self._found

    def _find(self) -> str:
        if self._path:
            if os.access(self._path, os.X_OK) and Path(self._path).is_file():
                return self._path
            raise ToolMissingError(f"{self.where}: {self._path} is no program on this host; correct tool in options")
        found = shutil.which(self.spec.name)
        if found is None:
            raise ToolMissingError(
                f"{self.where}: {self.spec.name} is not on this host ({self.spec.get}); when it is, name its path in "
                "options (tool)"
            )
        return found

    def _error(self, what: str, output: str) -> ToolError:
        lines = [line.strip()[:_LINE_LENGTH] for line in re.split(r"[\r\n]+", output) if line.strip()]
        said = " | ".join("".join(c if c.isprintable() else "." for c in line) for line in lines[-LAST_LINES:])
        return ToolError(f"{self.where}: {self.spec.name} {what}; it said: {said or 'nothing'}")


@contextmanager
def image_file(data: bytes, suffix: str = ".bin") -> Iterator[str]:
    """Give an image a file that only this user can read, for as long as a tool needs it."""
    with tempfile.TemporaryDirectory(prefix="fleetflash-") as directory:
        path = Path(directory) / f"image{suffix}"
        path.write_bytes(data)
        yield str(path)


def _run(command: List[str], seconds: float) -> Tuple[Optional[int], str]:
    """Return exit code, none when it had to be killed, and output."""
    environment: Dict[str, str] = {**os.environ, "LC_ALL": "C"}
    print("$ " + " ".join(command), file=sys.stderr, flush=True)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror or error}"
    try:
        output, _ = process.communicate(timeout=seconds)
        code: Optional[int] = process.returncode
    except subprocess.TimeoutExpired:
        code = None
        # With all that it has started: nothing may go on writing to the board.
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    text = output.decode(errors="replace")
    for line in text.splitlines():
        print(line, file=sys.stderr, flush=True)
    return code, text


def _dotted(version: Tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
