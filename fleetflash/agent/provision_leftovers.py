"""What changes of a host's source trees and virtualenvs have left that died in the middle, found and removed.

The caller holds the lock of such changes, so nobody makes one; but what one has started, pip for example, may live on.
"""

import os
import shutil
from pathlib import Path
from typing import Iterator, List, Tuple

from fleetflash.agent import source_tree, virtualenv

#: Of an upload and of the wheels in it, while they are used, and of what klippy's C helper is built in.
UPLOAD, WHEELS, HELPER = "fleetflash-upload-", "fleetflash-wheels-", "fleetflash-helper-"


def sweep(trees: List[Path], environments: List[Path], spools: List[Path], remove: bool) -> List[str]:
    """Return one line for each thing that is left, and remove it if asked. What a living process uses stays."""
    found = []
    for kind, path in _left(trees, environments, spools):
        if not _is_used(path):
            found.append(f"{kind} {path}: was not made to its end")
            if remove:
                _discard(path)
    return found


def _left(trees: List[Path], environments: List[Path], spools: List[Path]) -> Iterator[Tuple[str, Path]]:
    for path in trees:
        if os.path.lexists(str(source_tree.draft(path))):
            yield "source tree", source_tree.draft(path)
    for path in environments:
        for half in virtualenv.unfinished(path):
            yield "virtualenv", half
    for spool in spools:
        for path in sorted([*spool.glob(f"{UPLOAD}*"), *spool.glob(f"{WHEELS}*")]):
            yield "upload", path
        for path in sorted(spool.glob(f"{HELPER}*")):
            yield "C helper in", path


def _is_used(path: Path) -> bool:
    """Whether a process works with something there: runs it, was told of it, stands in it or has it open."""
    own = {os.getpid(), os.getppid()}
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) not in own]
    return any(_uses(process, str(path)) for process in processes)


def _uses(process: Path, path: str) -> bool:
    try:
        if path.encode() in (process / "cmdline").read_bytes():
            return True
    except OSError:
        return False
    links = [process / "cwd"]
    try:
        links += (process / "fd").iterdir()
    except OSError:
        pass  # another user's
    for link in links:
        try:
            place = str(link.readlink())
        except OSError:
            continue
        if place == path or place.startswith(f"{path}/"):
            return True
    return False


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path), ignore_errors=True)
    else:
        path.unlink()
