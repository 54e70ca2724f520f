"""A slow link that counts: a TCP port of this computer whose every byte arrives half a round trip late, both ways.

``round_trips`` is the length of the longest chain of messages of which each was sent after the one before it had
arrived, as the controller's end of the link saw it: what waits for nothing costs none, however much it is. The link
runs in a process of its own, so that it does not take turns with what is measured. It ends each TCP connection, so
neither TCP's own handshake nor its slow start is delayed.
"""

import multiprocessing
import selectors
import socket
import time
from collections import deque
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024
#: What may be on its way in each direction, in bytes.
MOST_UNDER_WAY = 4 * 1024 * 1024
CONTROLLER, HOST = 0, 1


class DelayedLink:
    """``port`` leads to ``target``, an address and its port. ``round_trip`` in seconds may be changed at any time."""

    def __init__(self, target: tuple[str, int], round_trip: float = 0.0) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        context = multiprocessing.get_context("fork")
        self._round_trip = context.Value("d", round_trip, lock=False)
        # Messages in the longest chain that has reached the controller; bytes sent by the controller and by the host.
        self._counts = context.Array("q", 3, lock=False)
        relay = _Relay(self._listener, target, self._round_trip, self._counts)
        self._process = context.Process(target=relay.run, daemon=True)
        self._process.start()

    @property
    def round_trip(self) -> float:
        return float(self._round_trip.value)

    @round_trip.setter
    def round_trip(self, seconds: float) -> None:
        self._round_trip.value = seconds

    @property
    def round_trips(self) -> int:
        """How many have been waited for since the link is there."""
        return int(self._counts[0]) // 2

    @property
    def carried(self) -> int:
        """Bytes, both ways."""
        return int(self._counts[1] + self._counts[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join(5)
        self._listener.close()


class _Direction:
    """What is on its way from one socket to the other: (when it arrives, its place in the chain, bytes)."""

    def __init__(self, source: socket.socket, sink: socket.socket, end: int) -> None:
        self.source, self.sink, self.end = source, sink, end
        self.under_way: deque[tuple[float, int, bytes]] = deque()
        self.size = 0
        self.over = False
        self.blocked = False


class _Relay:
    def __init__(self, listener: socket.socket, target: tuple[str, int], round_trip: object, counts: object) -> None:
        self._listener, self._target = listener, target
        self._round_trip, self._counts = round_trip, counts
        self._chain = [0, 0]
        self._directions: list[_Direction] = []

    def run(self) -> None:
        while True:
            self._wait()
            for direction in list(self._directions):
                self._deliver(direction)
            self._forget()

    def _wait(self) -> None:
        with selectors.SelectSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, None)
            wanted: dict[socket.socket, tuple[int, list[_Direction]]] = {}
            due = []
            for direction in self._directions:
                if not direction.over and direction.size < MOST_UNDER_WAY:
                    mask, found = wanted.get(direction.source, (0, []))
                    wanted[direction.source] = mask | selectors.EVENT_READ, [*found, direction]
                if direction.blocked:
                    mask, found = wanted.get(direction.sink, (0, []))
                    wanted[direction.sink] = mask | selectors.EVENT_WRITE, found
                elif direction.under_way:
                    due.append(direction.under_way[0][0])
            for connection, (mask, found) in wanted.items():
                selector.register(connection, mask, found)
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            for key, mask in selector.select(timeout):
                if key.data is None:
                    self._accept()
                elif mask & selectors.EVENT_READ:
                    for direction in key.data:
                        self._take(direction)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        try:
            there = socket.create_connection(self._target, 10)
        except OSError:
            here.close()
            return
        for connection in (here, there):
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._directions += [_Direction(here, there, CONTROLLER), _Direction(there, here, HOST)]

    def _take(self, direction: _Direction) -> None:
        try:
            data = direction.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        direction.over = not data
        direction.size += len(data)
        self._counts[1 + direction.end] += len(data)  # type: ignore[index]
        arrival = time.monotonic() + self._round_trip.value / 2  # type: ignore[attr-defined]
        direction.under_way.append((arrival, self._chain[direction.end] + 1, data))

    def _deliver(self, direction: _Direction) -> None:
        direction.blocked = False
        while direction.under_way and direction.under_way[0][0] <= time.monotonic():
            arrival, place, data = direction.under_way[0]
            if data:
                # Before anybody can have it, so that whoever has it finds it counted.
                self._chain[1 - direction.end] = max(self._chain[1 - direction.end], place)
                self._counts[0] = self._chain[CONTROLLER]  # type: ignore[index]
            try:
                if data:
                    count = direction.sink.send(data)
                else:
                    count = 0
                    direction.sink.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                direction.blocked = True
                return
            except OSError:
                direction.under_way.clear()
                direction.over = True
                return
            direction.size -= count
            direction.under_way.popleft()
            if count < len(data):
                direction.under_way.appendleft((arrival, place, data[count:]))

    def _forget(self) -> None:
        """Close connections of which both ends have ended."""
        ended = {direction.source for direction in self._directions if direction.over and not direction.under_way}
        for direction in list(self._directions):
            if direction.source in ended and direction.sink in ended:
                self._directions.remove(direction)
                direction.source.close()
