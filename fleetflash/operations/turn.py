"""One transaction at a time on a host that several entries of the inventory share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gevent.lock import BoundedSemaphore

from fleetflash.facts.address import address

_turns: dict[tuple[str, int], BoundedSemaphore] = {}


@contextmanager
def turn(host: Any) -> Iterator[bool]:
    """Wait until no other entry of this run works on the same host; yields whether one did."""
    lock = _turns.setdefault(address(host), BoundedSemaphore())
    waited = not lock.acquire(blocking=False)
    if waited:
        lock.acquire()
    try:
        yield waited
    finally:
        lock.release()
