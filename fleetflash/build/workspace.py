"""A directory for one build, gone when it is over, also when the builder was killed: the next one sweeps."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleetflash.build.lock import held, held_if_free


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """Yield an empty directory below ``root``; what builders that died left there is removed first.

    Beside each directory lies its lock, held as long as the builder lives.
    """
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with held(root / ".lock"):
            _sweep(root, remove=True)
            directory = Path(tempfile.mkdtemp(prefix="build-", dir=root))
            stack.enter_context(held(directory.with_suffix(".lock")))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            directory.with_suffix(".lock").unlink(missing_ok=True)


def sweep(root: Path, *, remove: bool = True) -> list[Path]:
    """Remove the directories of builders that died; return them."""
    if not root.is_dir():
        return []
    with held(root / ".lock"):
        return _sweep(root, remove)


def _sweep(root: Path, remove: bool) -> list[Path]:
    found = []
    for lock in sorted(root.glob("build-*.lock")):
        with held_if_free(lock) as free:
            if free:
                found.append(lock.with_suffix(""))
                if remove:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
    return found
