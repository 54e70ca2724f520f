"""The serial line: a pseudo-terminal that takes as long as the wire would.

A pseudo-terminal carries the exact baud rate (``TCGETS2`` on the master, measured) but neither time nor
modem lines.
"""

import ctypes
import errno
import fcntl
import os
import struct
import termios
import time
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fleetflash.lab.boards.loop import Loop, Timer

TCGETS2 = 0x802C542A
TERMIOS2_SIZE = 44
BITS_PER_BYTE = 10  # 8N1: start bit, eight data bits, stop bit
PIECE = 80  # bytes handed over at once: longer than any request of either protocol, shorter than 1 ms at 1 Mbaud
TRANSMIT_BUFFER = 4096  # a kernel serial port's write buffer: beyond it the writer has to wait
RATE_TOLERANCE = 0.03

IN_OPEN = 0x20
IN_CLOSE = 0x08 | 0x10

Receive = Callable[[bytes, int, float], None]


class Clients:
    """How many programs hold the port open, from inotify.

    A serial port that nobody holds open loses what the board sends.
    """

    def __init__(self, path: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or self._libc.inotify_add_watch(self.fd, path.encode(), IN_OPEN | IN_CLOSE) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {path}")
        self.count = 0

    def update(self) -> bool:
        """Read what happened; True when the last client has gone since the last call."""
        had_clients = self.count > 0
        try:
            events = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        position = 0
        while position < len(events):
            _, mask, _, name_length = struct.unpack_from("iIII", events, position)
            position += 16 + name_length
            if mask & IN_OPEN:
                self.count += 1
            elif mask & IN_CLOSE:
                self.count = max(0, self.count - 1)
        return had_clients and self.count == 0


class Line:
    """Both directions of the UART between the USB bridge and the chip.

    ``receive(data, baud, at)`` is called when the last bit of ``data`` has arrived, with the sender's rate.
    """

    def __init__(self, loop: Loop, receive: Receive) -> None:
        self._loop = loop
        self._receive = receive
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._clients = Clients(self.path)
        self._incoming: deque[tuple[float, bytes, int]] = deque()
        self._incoming_bytes = 0
        self._incoming_clock = 0.0
        self._incoming_timer: Timer | None = None
        self._outgoing: deque[tuple[float, bytes, int]] = deque()
        self._outgoing_clock = 0.0
        self._outgoing_timer: Timer | None = None
        loop.add_reader(self._clients.fd, self._update_clients)
        loop.add_reader(self._master, self._read)

    def rate(self) -> int:
        """The baud rate that the client has set."""
        raw = fcntl.ioctl(self._master, TCGETS2, bytes(TERMIOS2_SIZE))
        return int(struct.unpack_from("<I", raw, TERMIOS2_SIZE - 4)[0])

    def send(self, data: bytes, baud: int, at: float) -> float:
        """Put bytes on the wire from ``at`` on, after those waiting. Returns when the last bit is out."""
        clock = max(self._outgoing_clock, at)
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            clock += len(piece) * BITS_PER_BYTE / baud
            self._outgoing.append((clock, piece, baud))
        self._outgoing_clock = clock
        self._schedule_outgoing()
        return clock

    def silence(self) -> None:
        """The chip has stopped: what it had not sent yet, and what was on its way to it, is lost."""
        self._outgoing.clear()
        self._outgoing_clock = 0.0
        self._incoming.clear()
        self._incoming_bytes = 0
        self._loop.add_reader(self._master, self._read)

    def publish(self, link: Path) -> None:
        """Make ``link`` a symbolic link to the port, in one step."""
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.path)
        temporary.replace(link)

    def withdraw(self, link: Path) -> None:
        """Remove ``link`` if it is still ours."""
        try:
            if str(link.readlink()) == self.path:
                link.unlink()
        except OSError:
            pass

    def _update_clients(self) -> None:
        if self._clients.update():
            # A serial driver forgets unread input at the last close; our own descriptor would keep it.
            termios.tcflush(self._slave, termios.TCIFLUSH)

    def _read(self) -> None:
        self._update_clients()
        try:
            data = os.read(self._master, TRANSMIT_BUFFER - self._incoming_bytes)
        except BlockingIOError:
            return
        baud = self.rate()
        if not data or baud == 0:
            return
        clock = max(self._incoming_clock, time.monotonic())
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            clock += len(piece) * BITS_PER_BYTE / baud
            self._incoming.append((clock, piece, baud))
        self._incoming_clock = clock
        self._incoming_bytes += len(data)
        if self._incoming_bytes >= TRANSMIT_BUFFER:
            self._loop.remove_reader(self._master)
        self._schedule_incoming()

    def _schedule_incoming(self) -> None:
        if self._incoming_timer is None and self._incoming:
            self._incoming_timer = self._loop.at(self._incoming[0][0], self._arrive)

    def _arrive(self, _due: float) -> None:
        self._incoming_timer = None
        if self._incoming and self._incoming[0][0] <= time.monotonic():
            at, data, baud = self._incoming.popleft()
            self._incoming_bytes -= len(data)
            self._loop.add_reader(self._master, self._read)
            self._receive(data, baud, at)
        self._schedule_incoming()

    def _schedule_outgoing(self) -> None:
        if self._outgoing_timer is None and self._outgoing:
            self._outgoing_timer = self._loop.at(self._outgoing[0][0], self._depart)

    def _depart(self, _due: float) -> None:
        self._outgoing_timer = None
        if self._outgoing and self._outgoing[0][0] <= time.monotonic():
            _, data, baud = self._outgoing.popleft()
            self._update_clients()
            if self._clients.count > 0:
                self._write(data if same_rate(baud, self.rate()) else garble(data))
        self._schedule_outgoing()

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError as error:
            # Nobody reads: a UART overruns, it does not wait.
            if error.errno != errno.EAGAIN:
                raise


def same_rate(one: int, other: int) -> bool:
    """Whether two UARTs at these rates understand each other."""
    return other > 0 and abs(one - other) <= RATE_TOLERANCE * other


def garble(data: bytes) -> bytes:
    """What a receiver at the wrong rate makes of ``data``: other bytes, and fewer of them."""
    return bytes((value * 0x35 + 0x9E) & 0xFF | 0x80 for value in data[::3])
