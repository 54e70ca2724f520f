"""Locks between builders, threads and processes alike: files under flock, which go with the process that holds them.

Waiting polls, because pyinfra runs its hosts as greenlets of one thread: a lock that blocked the thread would keep the
greenlet that holds it from ever letting go.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: How often a lock that is taken is tried again, in seconds.
INTERVAL = 0.05


@contextmanager
def held(path: Path, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file alone, or together with other ``shared`` holders; ``waiting`` is called once if it is taken."""
    descriptor = _open(path)
    try:
        while not _try(descriptor, shared):
            if waiting is not None:
                waiting()
                waiting = None
            time.sleep(INTERVAL)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file alone if nobody else holds it; yields whether it is held."""
    descriptor = _open(path)
    try:
        yield _try(descriptor, shared=False)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
