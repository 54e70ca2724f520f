"""ESP-IDF on this computer: its environment, and whether it is the one that is pinned and can build for a target.

Source: gateway operations guide, chapter 1 (what is checked, and how), and ESP-IDF guide, "Standard Toolchain Setup
for Linux and macOS" (``install.sh``, ``export.sh``, ``IDF_TOOLS_PATH``).
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import SourceError, ToolchainError
from fleetflash.build.git import build_environment, git
from fleetflash.build.idf.esp_idf import EspIdf
from fleetflash.build.idf.installation import Place
from fleetflash.build.toolchain import identity

#: The guide, chapter 1, steps 3 and 4.
LEAST_PYTHON, LEAST_NODE = (3, 10), (18,)
#: A cold start of idf.py on a small computer, with a margin, in seconds.
TIMEOUT = 120.0
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.\d+)*")
_VERSION = re.compile(r"ESP-IDF (v\S+)")
#: Prints the packages of a Python environment: esptool is one of them, and makes the images.
_PACKAGES = (
    "import importlib.metadata as m; print(*sorted({f'{d.name}=={d.version}' for d in m.distributions()}), sep=' ')"
)


@dataclass(frozen=True)
class Idf:
    """An ESP-IDF that is ready. ``variables``: its environment. ``id``: sha256 over what decides its output."""

    version: str
    variables: Mapping[str, str]
    id: str

    @property
    def path(self) -> Path:
        return Path(self.variables["IDF_PATH"])


def check(pinned: EspIdf, place: Place, target: str, *, node: bool = False) -> Idf:
    """Return the pinned ESP-IDF with its environment; raises ``ToolchainError`` that names what is missing.

    + place: where it is
    + target: the chip that it must list
    + node: whether Node.js is needed, for the web interface
    """
    try:
        return _check(pinned, place, target, node)
    except ToolchainError as error:
        raise ToolchainError(f"{pinned}: {error}") from None


def _check(pinned: EspIdf, place: Place, target: str, node: bool) -> Idf:
    path, tools, install = place.path, place.tools, place.repair
    if place.archive and not (path / "export.sh").is_file():
        raise ToolchainError(f"its archive has no {pinned.inside}/export.sh; pin the archive with submodules")
    if not (path / "export.sh").is_file():
        raise ToolchainError(
            f"no export.sh in {path}: git clone --branch {pinned.version} --recursive "
            f"https://github.com/espressif/esp-idf.git {path} && {install}"
        )
    if not tools.is_dir():
        raise ToolchainError(f"its tools are not in {tools}: {install}")
    variables = _exported(place)
    said = _said(variables, "idf.py", "--version", next_step=install)
    found = _VERSION.search(said)
    if found is None or found[1] != pinned.version:
        shown = found[1] if found else f"{said:.60}"
        remedy = f"pin that, or the archive of {pinned.version}"
        if not place.archive:
            remedy = f"check {pinned.version} out there: {install}"
        raise ToolchainError(f"idf.py --version says {shown!r} in {path}; {remedy}")
    python = _said(variables, "python", "--version", next_step=install)
    if _numbers(python) < LEAST_PYTHON:
        raise ToolchainError(f"its Python is {python!r}, expected at least 3.10; install that, then: {install}")
    targets = _said(variables, "idf.py", "--list-targets", next_step=install).split()
    if target not in targets:
        raise ToolchainError(f"target {target} is not in --list-targets ({', '.join(targets)}): {install}")
    facts = {
        "idf": said.strip(),
        "python": python,
        "packages": _said(variables, "python", "-c", _PACKAGES, next_step=install),
        "tools": _tools(variables["PATH"], tools),
        "commit": _commit(path),
        "archive": place.archive,
    }
    if node:
        facts["node"] = _said(variables, "node", "--version", next_step="install Node.js 18 or newer")
        if _numbers(facts["node"]) < LEAST_NODE:
            raise ToolchainError(f"node is {facts['node']!r}, expected at least 18, for web/; install that")
    return Idf(pinned.version, variables, identity(facts))


def _exported(place: Place) -> dict[str, str]:
    """Return the variables that ``export.sh`` leaves, starting from nothing of the user's but HOME."""
    base, install = place.variables(), place.repair
    command = ["bash", "-c", '. "$IDF_PATH/export.sh" >&2 && env -0']
    try:
        answer = subprocess.run(command, env=base, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
    except FileNotFoundError:
        raise ToolchainError("bash is not installed: apt-get install bash") from None
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"export.sh does not end; repair it: {install}") from None
    if answer.returncode:
        lines = [line.strip() for line in answer.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise ToolchainError(f"export.sh failed ({' | '.join(lines[-2:]) or 'it says nothing'}): {install}")
    pairs = (entry.partition("=") for entry in answer.stdout.decode(errors="surrogateescape").split("\0") if entry)
    unwanted = ("_", "PWD", "OLDPWD", "SHLVL")
    return {name: value for name, _, value in pairs if name not in unwanted}


def _said(variables: Mapping[str, str], *command: str, next_step: str) -> str:
    """Return what a program of the environment prints; raises ``ToolchainError`` when it is missing or fails."""
    shown = " ".join(command)
    program = _which(command[0], variables["PATH"])
    if program is None:
        raise ToolchainError(f"{command[0]} is not there: {next_step}")
    try:
        answer = subprocess.run(
            [program, *command[1:]],
            # As in the build, so that git describes ESP-IDF in the same words.
            env=build_environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "does not end" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise ToolchainError(f"{shown}: {reason}: {next_step}") from None
    if answer.returncode:
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        raise ToolchainError(f"{shown} failed ({lines[-1] if lines else 'it says nothing'}): {next_step}")
    return answer.stdout.strip()


def _which(program: str, path: str) -> str | None:
    places = (Path(directory, program) for directory in path.split(":") if directory)
    return next((str(place) for place in places if place.is_file() and os.access(place, os.X_OK)), None)


def _numbers(text: str) -> tuple[int, ...]:
    found = _NUMBERS.search(text)
    return (int(found[1]), int(found[2])) if found else (0,)


def _tools(path: str, tools: Path) -> str:
    """Return which versions of the tools are used: their directories carry them in their names."""
    used = (Path(entry) for entry in path.split(":"))
    return " ".join(sorted(str(entry.relative_to(tools)) for entry in used if entry.is_relative_to(tools)))


def _commit(path: Path) -> str:
    """Return the commit of ESP-IDF itself; empty where it was unpacked from an archive."""
    if not (path / ".git").exists():
        return ""
    try:
        return git(path, "describe", "--always", "--tags", "--dirty", "--abbrev=40")
    except SourceError:
        return ""
