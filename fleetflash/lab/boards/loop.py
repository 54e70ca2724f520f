"""One event loop per board: file descriptors and timers, no threads, no polling."""

import heapq
import itertools
import select
import time
from collections.abc import Callable

TimerCallback = Callable[[float], None]


class Timer:
    """A pending call; ``cancel`` is idempotent and safe after it has fired."""

    __slots__ = ("callback", "cancelled", "due")

    def __init__(self, due: float, callback: TimerCallback) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Calls readers when their descriptor is readable and timers when they are due, with the *due* time.

    Work timed from the due time, not from when the process got the CPU, does not drift on a loaded machine.
    ``select`` is used because its timeout counts microseconds; ``epoll`` would round byte times up to 1 ms.
    """

    def __init__(self) -> None:
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = True

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        self._readers.pop(fd, None)

    def at(self, due: float, callback: TimerCallback) -> Timer:
        timer = Timer(due, callback)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            timeout = self._run_timers()
            if not self._running:
                break
            ready, _, _ = select.select(list(self._readers), [], [], timeout)
            # What fell due while select slept comes before the bytes that have just arrived.
            if ready:
                self._run_timers()
            # A timer, or the reader before, may have closed a descriptor that was ready.
            for fd in [fd for fd in self._readers if fd in ready]:
                if callback := self._readers.get(fd):
                    callback()

    def _run_timers(self) -> float | None:
        """Run what is due; the seconds until the next timer, or None."""
        while self._timers and self._running:
            due, _, timer = self._timers[0]
            if timer.cancelled:
                heapq.heappop(self._timers)
                continue
            wait = due - time.monotonic()
            if wait > 0:
                return wait
            heapq.heappop(self._timers)
            timer.callback(due)
        return None
