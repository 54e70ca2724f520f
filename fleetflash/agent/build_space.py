"""Where a host builds: a directory for each build, gone with it, and toolchains that stay.

Below one directory: ``work/build-…/`` with its lock beside it, held by the agent and by everything that it started;
``toolchains/<sha256>/tree``, which appears by one rename, complete and on disk, with its lock ``.<sha256>.lock``, held
alone by whoever unpacks or removes it and shared by whoever uses it.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

TREE = "tree"
#: So many of the last used toolchains stay when another one comes.
KEPT = 3


@contextmanager
def workspace(root: Path) -> Iterator[Tuple[Path, int]]:
    """Yield an empty directory and its lock's descriptor; what dead builders left is removed first."""
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    with _held(work / ".lock", fcntl.LOCK_EX):
        _sweep(work, remove=True)
        directory = Path(tempfile.mkdtemp(prefix="build-", dir=str(work)))
        lock = directory.with_suffix(".lock")
        descriptor = _open(lock)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield directory, descriptor
    finally:
        shutil.rmtree(str(directory), ignore_errors=True)
        lock.unlink()
        os.close(descriptor)


def sweep(root: Path, remove: bool) -> List[str]:
    """Return one line for each thing that a builder that died has left, and remove it if asked."""
    found, work, toolchains = [], root / "work", root / "toolchains"
    if work.is_dir():
        with _held(work / ".lock", fcntl.LOCK_EX):
            found += [f"build {path}: is of a builder that died" for path in _sweep(work, remove)]
    if toolchains.is_dir():
        for path, sha256 in _unfinished(toolchains):
            with open(str(toolchains / f".{sha256}.lock"), "a") as lock:
                if _try(lock.fileno()) and path.exists():
                    found.append(f"toolchain {path}: was not unpacked to its end")
                    if remove:
                        shutil.rmtree(str(path), ignore_errors=True)
    return found


def _sweep(work: Path, remove: bool) -> List[Path]:
    found = []
    for lock in sorted(work.glob("build-*.lock")):
        if _is_free(lock):
            found.append(lock.with_suffix(""))
            if remove:
                shutil.rmtree(str(lock.with_suffix("")), ignore_errors=True)
                lock.unlink()
    return found


def _unfinished(toolchains: Path) -> List[Tuple[Path, str]]:
    return [(path, path.name[1:].partition(".")[0]) for path in sorted(toolchains.glob(".*.unpacking"))]


@contextmanager
def toolchain(root: Path, sha256: str, fill: Callable[[Path], None]) -> Iterator[Path]:
    """Yield the tree of a toolchain; when it is not there, ``fill`` makes it at the path that it is given."""
    directory = root / "toolchains"
    directory.mkdir(parents=True, exist_ok=True)
    entry, lock = directory / sha256, directory / f".{sha256}.lock"
    while True:
        with _held(lock, fcntl.LOCK_SH):
            if entry.is_dir():
                # When it was used last decides which ones stay.
                os.utime(str(entry))
                yield entry / TREE
                return
        with _held(lock, fcntl.LOCK_EX):
            if not entry.is_dir():
                _collect(directory)
                _publish(entry, fill)


def _publish(entry: Path, fill: Callable[[Path], None]) -> None:
    unpacking = entry.with_name(f".{entry.name}.unpacking")
    shutil.rmtree(str(unpacking), ignore_errors=True)
    try:
        unpacking.mkdir()
        fill(unpacking / TREE)
        os.sync()
        unpacking.rename(entry)
    finally:
        shutil.rmtree(str(unpacking), ignore_errors=True)


def _collect(directory: Path) -> None:
    """Remove what dead builders left half unpacked, and all but the last used toolchains; what is in use stays."""
    entries = [path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    surplus = sorted(entries, key=lambda path: -path.stat().st_mtime)[KEPT - 1 :]
    for path, sha256 in [*_unfinished(directory), *((path, path.name) for path in surplus)]:
        with open(str(directory / f".{sha256}.lock"), "a") as lock:
            if _try(lock.fileno()):
                removing = directory / f".{sha256}.unpacking"
                if path != removing:
                    path.rename(removing)
                shutil.rmtree(str(removing), ignore_errors=True)


@contextmanager
def _held(path: Path, how: int) -> Iterator[None]:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _is_free(path: Path) -> bool:
    descriptor = _open(path)
    try:
        return _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    return os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
