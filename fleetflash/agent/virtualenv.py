"""A virtualenv of the host that holds exactly what its hashed requirements say.

``<path>`` is a link to a version in ``<directory>/.<name>-versions``. A version is built beside the one in use, and the
link is replaced when it is complete, so whoever runs in the old one is not disturbed and nobody ever sees a half.
(Scripts of a virtualenv name its place, so one that was moved would not do.)
"""

import csv
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

MARKER = "fleetflash-environment"
#: pip on the slowest boards; packages without a wheel may be compiled there.
BUILD_SECONDS = 3600.0


class EnvironmentBuildError(Exception):
    """The virtualenv can't be built; the one that was there is still in use. One line with the last error."""


def flaw(path: Path, requirements: str) -> str:
    """Return why a virtualenv is not what its requirements say, or nothing when it is; changes nothing."""
    if not os.path.lexists(str(path)):
        return "is not there"
    try:
        key = (path / MARKER).read_text().strip()
    except OSError:
        return "was not made by fleetflash"
    if key != _key(requirements):
        return "has other requirements, or was made for another Python"
    return _damage(path)


def build(path: Path, requirements: str, wheels: Optional[Path]) -> str:
    """Make the virtualenv and put it in its place; return what was kept of what lay there, or nothing.

    + requirements: every one with its hashes (pip's ``--require-hashes``)
    + wheels: a directory with all packages; without, pip asks its index

    Raises ``EnvironmentBuildError``.
    """
    versions = _versions(path)
    versions.mkdir(parents=True, exist_ok=True)
    used = os.path.realpath(str(path))
    for old in versions.iterdir():
        if str(old) != used:
            shutil.rmtree(str(old), ignore_errors=True)
    key = _key(requirements)
    new = versions / f"{key[:12]}-{time.time_ns():x}"
    _run(["python3", "-m", "venv", str(new)], "python3-venv belongs into the packages")
    listed = new / "requirements.txt"
    listed.write_text(requirements)
    offline = ["--no-index", "--find-links", str(wheels)] if wheels else []
    pip = [str(new / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "--no-compile", *offline, "-r", str(listed)], "")
    damage = _damage(new)
    if damage:
        raise EnvironmentBuildError(f"{path}: what pip has just installed {damage}; is the disk sound?")
    (new / MARKER).write_text(f"{key}\n")
    os.sync()
    return _publish(path, new)


def unfinished(path: Path) -> List[Path]:
    """Return what a build that died has left: versions that are not in use and were never complete, and the link."""
    versions, used = _versions(path), os.path.realpath(str(path))
    found = sorted(versions.iterdir()) if versions.is_dir() else []
    halves = [old for old in found if str(old) != used and not (old / MARKER).is_file()]
    return [*halves, *([_link(path)] if _link(path).is_symlink() else [])]


def _versions(path: Path) -> Path:
    return path.with_name(f".{path.name}-versions")


def _link(path: Path) -> Path:
    """Return where a link is made before it takes the place of the one in use."""
    return path.with_name(f".{path.name}-link")


def _publish(path: Path, new: Path) -> str:
    kept = ""
    if os.path.lexists(str(path)) and not path.is_symlink():
        aside = path.with_name(f"{path.name}-before-fleetflash-{time.time_ns():x}")
        path.rename(aside)
        kept = f"the one that was there is {aside}"
    draft = _link(path)
    draft.unlink(missing_ok=True)
    draft.symlink_to(os.path.relpath(str(new), str(path.parent)))
    os.replace(str(draft), str(path))
    return kept


def _key(requirements: str) -> str:
    """What follows from other text, another Python or another machine is another virtualenv."""
    made_of = [requirements, "%d.%d" % sys.version_info[:2], platform.machine()]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()


def _damage(path: Path) -> str:
    """Return what is missing of a virtualenv: its Python, or a file that its packages list.

    Source: "Recording installed projects" (PyPA specifications): RECORD has path, hash and size of every file.
    """
    python = path / "bin/python"
    try:
        started = subprocess.run([str(python), "-ISc", ""], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return "has no working python"
    if started.returncode:
        return "has no working python"
    records = sorted(path.glob("lib/python*/site-packages/*.dist-info/RECORD"))
    if not records:
        return "has no packages"
    for record in records:
        packages = str(record.parent.parent)
        with open(str(record), newline="", encoding="utf-8") as lines:
            for row in csv.reader(lines):
                if len(row) < 3 or row[0].endswith(".pyc"):
                    continue
                if not _is_there(f"{packages}/{row[0]}", row[2]):
                    return f"lacks {row[0]}"
    return ""


def _is_there(file: str, size: str) -> bool:
    """Whether a file is there, and as large as it was recorded. There are thousands, hence no ``Path``."""
    try:
        found = os.stat(file).st_size  # noqa: PTH116
    except OSError:
        return False
    return not size or found == int(size)


def _run(command: List[str], advice: str) -> None:
    # An active virtualenv has no say here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BUILD_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentBuildError(f"{' '.join(command[:3])}: {error}") from error
    if answer.returncode:
        said = [line.strip() for line in answer.stdout.decode(errors="replace").splitlines() if line.strip()]
        told = [line for line in said if line.startswith("ERROR")] or said[-1:] or ["failed"]
        raise EnvironmentBuildError("; ".join([told[0][:400], *([advice] if advice else [])]))
