"""The root file system that all hosts of all labs share, read-only, below their overlays.

Built once per recipe into the cache directory of the person who runs the lab: in a temporary directory first,
renamed when complete, under a lock.
"""

import fcntl
import hashlib
import os
import platform
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetflash.lab import recipe
from fleetflash.lab.layout import STATE

Say = Callable[[str], None]


def path() -> Path:
    """Where the root file system of this recipe is, or will be."""
    digest = hashlib.sha256(platform.machine().encode())
    for source in recipe.sources():
        digest.update(source.read_bytes())
    return cache() / f"rootfs-{digest.hexdigest()[:12]}"


def cache() -> Path:
    """The cache directory of the person who runs the lab, also through sudo."""
    user = os.environ.get("SUDO_USER")
    if user and os.geteuid() == 0:
        return Path(pwd.getpwnam(user).pw_dir) / ".cache" / "fleetflash"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetflash"


def ensure(say: Say) -> Path:
    """The finished root file system; builds it when this recipe has none yet."""
    base = path()
    if base.is_dir():
        return base
    _make_cache()
    with _lock(base.parent, say) as lock:
        if not base.is_dir():
            say("building the hosts' root file system once (Debian 12, klippy, Moonraker): about a minute")
            started = time.monotonic()
            _remove_unused(base.parent)
            _build(base, lock)
            say(f"built {base} in {time.monotonic() - started:.0f} s")
    return base


def _make_cache() -> None:
    """Create the cache directory; through sudo it belongs to the person, not to root."""
    directory = cache()
    owner = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
    missing = [part for part in (directory, *directory.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir()
        os.chown(part, *owner)


@contextmanager
def _lock(directory: Path, say: Say) -> Iterator[int]:
    """One builder at a time; yields the descriptor that holds the lock."""
    with open(directory / "rootfs.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the hosts' root file system")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def _remove_unused(directory: Path) -> None:
    """Drop other recipes and interrupted builds, unless a lab stands on them. Called under the lock."""
    used = "".join(record.read_text() for record in STATE.glob("*/lab.json"))
    used += Path("/proc/self/mountinfo").read_text()
    for old in directory.glob("rootfs-*"):
        if str(old) not in used:
            # Renamed first: what has a recipe's name is always complete.
            doomed = old.with_suffix(".removed")
            if old != doomed:
                old.rename(doomed)
            shutil.rmtree(doomed)


def _build(base: Path, lock: int) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{base.name}.", dir=base.parent))
    try:
        work.chmod(0o755)
        # Long-running children hold the lock, too: should this process be killed, the next builder waits for them.
        recipe.build(work, keep=[lock]).rename(base)
    finally:
        shutil.rmtree(work, ignore_errors=True)
