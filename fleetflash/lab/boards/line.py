"""The serial line: a pseudo-terminal that takes as long as the wire would.

A pseudo-terminal carries the exact baud rate (``TCGETS2`` on the master, measured) but neither time nor
modem lines nor parity.
"""

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

from fleetflash.lab.boards.clients import Clients
from fleetflash.lab.boards.framing import Parity, heard_by_chip, heard_by_client
from fleetflash.lab.boards.loop import Loop, Timer

TCGETS2 = 0x802C542A
TERMIOS2_SIZE = 44
HUPCL = 0x400
PIECE = 80  # bytes handed over at once: longer than any request of either protocol, shorter than 1 ms at 1 Mbaud
TRANSMIT_BUFFER = 4096  # a kernel serial port's write buffer: beyond it the writer has to wait
RATE_TOLERANCE = 0.03
USB_BYTES_PER_SECOND = 500_000  # full speed bulk transfers of 64 bytes, a few per frame
ANY_RATE = -1  # what a chip's own USB port hears: there is no rate to disagree about

Receive = Callable[[bytes, int, float], None]


def _nothing() -> None:
    pass


class Line:
    """Both directions between a client of the port and the chip: a UART behind a USB bridge, or the chip's own USB.

    ``receive(data, baud, at)`` is called when the last bit of ``data`` has arrived, with the sender's rate.
    ``opened`` and ``closed`` are called at the first open and the last close of the port. ``client_parity`` is
    what the client has set, ``None`` when nobody said; ``chip_parity`` what the running program uses.
    """

    def __init__(self, loop: Loop, receive: Receive, *, usb: bool = False) -> None:
        self._loop = loop
        self._receive = receive
        self._usb = usb
        self.opened: Callable[[], None] = _nothing
        self.closed: Callable[[], None] = _nothing
        self.client_parity: Parity | None = None
        self.chip_parity = Parity.NONE
        self.path = ""
        self._incoming: deque[tuple[float, bytes, int]] = deque()
        self._incoming_bytes = 0
        self._incoming_clock = 0.0
        self._incoming_timer: Timer | None = None
        self._outgoing: deque[tuple[float, bytes, int]] = deque()
        self._outgoing_clock = 0.0
        self._outgoing_timer: Timer | None = None

    @property
    def attached(self) -> bool:
        """Whether there is a port at all."""
        return bool(self.path)

    def attach(self) -> None:
        """Make a new pseudo-terminal: the bridge, or the chip's own USB device, is there."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        flags = termios.tcgetattr(self._slave)
        flags[2] |= HUPCL  # as a serial port begins; a pseudo-terminal would not
        termios.tcsetattr(self._slave, termios.TCSANOW, flags)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._clients = Clients(self.path)
        self._loop.add_reader(self._clients.fd, self._update_clients)
        self._loop.add_reader(self._master, self._read)

    def detach(self) -> None:
        """The USB device is gone: who holds the port open reads its end, the name disappears."""
        self.silence()
        for fd in (self._clients.fd, self._master):
            self._loop.remove_reader(fd)
        self._clients.close()
        os.close(self._master)
        os.close(self._slave)
        self.path = ""

    def rate(self) -> int:
        """The baud rate that the client has set."""
        return self._termios()[1]

    def hangs_up(self) -> bool:
        """Whether the client lets the driver drop DTR at the last close (HUPCL)."""
        return bool(self._termios()[0] & HUPCL)

    def _termios(self) -> tuple[int, int]:
        """Flags (c_cflag) and output rate."""
        raw = fcntl.ioctl(self._master, TCGETS2, bytes(TERMIOS2_SIZE))
        return struct.unpack_from("<I", raw, 8)[0], struct.unpack_from("<I", raw, TERMIOS2_SIZE - 4)[0]

    def send(self, data: bytes, baud: int, at: float) -> float:
        """Put bytes on the wire from ``at`` on, after those waiting. Returns when the last bit is out."""
        clock = max(self._outgoing_clock, at)
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            clock += self._seconds(len(piece), baud, self.chip_parity)
            self._outgoing.append((clock, piece, baud))
        self._outgoing_clock = clock
        self._schedule_outgoing()
        return clock

    def _seconds(self, count: int, baud: int, parity: Parity) -> float:
        return count / USB_BYTES_PER_SECOND if self._usb else count * parity.bits / baud

    def silence(self) -> None:
        """The chip has stopped: what it had not sent yet, and what was on its way to it, is lost."""
        self._outgoing.clear()
        self._outgoing_clock = 0.0
        self._incoming.clear()
        self._incoming_bytes = 0
        if self.attached:
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
        for held in self._clients.update():
            if held:
                self.opened()
                continue
            # A serial driver forgets unread input at the last close; our own descriptor would keep it.
            termios.tcflush(self._slave, termios.TCIFLUSH)
            self.closed()
            if not self.attached:
                return

    def _read(self) -> None:
        self._update_clients()
        if not self.attached:
            return
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
            clock += self._seconds(len(piece), baud, self.client_parity or self.chip_parity)
            self._incoming.append((clock, piece, ANY_RATE if self._usb else baud))
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
            if self.client_parity is not None and not self._usb:
                data = heard_by_chip(data, self.client_parity, self.chip_parity)
            self._receive(data, baud, at)
        self._schedule_incoming()

    def _schedule_outgoing(self) -> None:
        if self._outgoing_timer is None and self._outgoing:
            self._outgoing_timer = self._loop.at(self._outgoing[0][0], self._depart)

    def _depart(self, _due: float) -> None:
        self._outgoing_timer = None
        if self.attached:
            # Opening the port may reset the chip, which then never said this.
            self._update_clients()
        if self._outgoing and self._outgoing[0][0] <= time.monotonic():
            _, data, baud = self._outgoing.popleft()
            if self.attached and self._clients.count > 0:
                self._write(data if self._usb else self._heard(data, baud))
        self._schedule_outgoing()

    def _heard(self, data: bytes, baud: int) -> bytes:
        """What the client's UART makes of the chip's bytes."""
        if not same_rate(baud, self.rate()):
            return garble(data)
        return heard_by_client(data, self.chip_parity, self.client_parity or self.chip_parity)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError as error:
            # Nobody reads: a UART overruns, it does not wait.
            if error.errno != errno.EAGAIN:
                raise


def same_rate(one: int, other: int) -> bool:
    """Whether two UARTs at these rates understand each other; a chip's own USB port understands all."""
    return one == ANY_RATE or (other > 0 and abs(one - other) <= RATE_TOLERANCE * other)


def garble(data: bytes) -> bytes:
    """What a receiver at the wrong rate makes of ``data``: other bytes, and fewer of them."""
    return bytes((value * 0x35 + 0x9E) & 0xFF | 0x80 for value in data[::3])
