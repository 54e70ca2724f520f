"""A serial port of this machine, held alone: locked, exact in speed, a deadline on everything that waits."""

import errno
import fcntl
import math
import os
import select
import stat
import struct
import termios
import time
from pathlib import Path
from typing import AbstractSet, List, Optional, Tuple

from fleetflash.agent import holders as _holders
from fleetflash.agent import termios2
from fleetflash.agent.holders import holders
from fleetflash.agent.port import LineStep, PortError

__all__ = ["SerialPort", "holders"]

#: The longest time in seconds that a device may refuse every byte.
WRITE_STALL = 10.0
#: A newly plugged device is looked at by others (udev, ModemManager) for a moment.
_SETTLE = 0.3
#: The largest difference between wished and real speed that receivers still decode.
_SPEED_TOLERANCE = 0.03

_TIOCSBRK = 0x5427
_TIOCCBRK = 0x5428
_BITS = struct.Struct("I")


class SerialPort:
    """One open serial port; implements ``port.Port``. Every failure is a ``PortError`` naming the port."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = self.address = name
        self._fd = fd

    @classmethod
    def open(
        cls, path: str, baudrate: int = 115200, parity: str = "N", offered_by: AbstractSet[int] = frozenset()
    ) -> "SerialPort":
        """Lock and open ``path``; DTR and RTS are asserted. Refused when any other process has it open.

        ``offered_by``: processes that may, because the port is a pseudo-terminal of theirs.
        """
        # Looking comes first, since opening alone raises DTR, which resets many boards.
        _refuse_held(path, offered_by)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PortError(_open_failure(path, error)) from None
        port = cls(path, fd)
        try:
            port._lock(offered_by)
            port._configure(baudrate, parity)
        except BaseException:
            port.close()
            raise
        return port

    def _lock(self, offered_by: AbstractSet[int]) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found = _holders.describe(holders(self.name)) or "a process that only root can see"
            raise PortError(f"{self.name}: locked by {found}; stop it first") from None
        try:
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
        except OSError:
            raise PortError(f"{self.name}: not a serial port") from None
        # Whoever came between the first look and the lock is found by a second one.
        deadline = time.monotonic() + _SETTLE
        while _held(self.name, offered_by) and time.monotonic() < deadline:
            time.sleep(0.05)
        _refuse_held(self.name, offered_by)

    def _configure(self, baudrate: int, parity: str) -> None:
        try:
            termios2.make_raw(self._fd)
        except OSError as error:
            raise self._failure(error) from None
        self._apply_speed(baudrate)
        if parity != "N":
            self.set_parity(parity)
        # Linux raises both lines when it opens real hardware; saying so makes every driver the same.
        self.set_lines(True, True)
        self.discard_input()

    def fileno(self) -> int:
        if self._fd < 0:
            raise PortError(f"{self.name}: the port is closed")
        return self._fd

    def read(self, size: int, timeout: float) -> bytes:
        """Return as soon as ``size`` bytes are there, or what came within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        data = b""
        while len(data) < size:
            piece = self.read_some(size - len(data))
            data += piece
            if not piece and not self._wait(select.POLLIN, deadline):
                break
        return data

    def read_some(self, size: int) -> bytes:
        """Return what is there at once, up to ``size`` bytes."""
        try:
            data = os.read(self.fileno(), size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failure(error) from None
        if not data:
            raise self._failure(OSError(errno.EIO, "hung up"))
        return data

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``; returns before it is on the wire."""
        rest = memoryview(data)
        deadline = time.monotonic() + WRITE_STALL
        while rest:
            count = self.write_some(rest)
            if count:
                rest = rest[count:]
                deadline = time.monotonic() + WRITE_STALL
            elif not self._wait(select.POLLOUT, deadline):
                raise PortError(f"{self.name}: takes no data since {WRITE_STALL:.0f} s; unplug and replug the board")

    def write_some(self, data: memoryview) -> int:
        """Hand over what the driver takes at once and return how many bytes that was."""
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._failure(error) from None

    def drain(self) -> None:
        """Return when everything written has left."""
        try:
            termios.tcdrain(self.fileno())
        except termios.error as error:
            raise self._failure(OSError(*error.args)) from None

    def discard_input(self) -> None:
        """Drop every byte received and not yet read."""
        try:
            termios.tcflush(self.fileno(), termios.TCIFLUSH)
        except termios.error as error:
            raise self._failure(OSError(*error.args)) from None

    def set_baudrate(self, baudrate: int) -> None:
        """Send what is written, then switch to ``baudrate`` bit/s."""
        self.drain()
        self._apply_speed(baudrate)

    def _apply_speed(self, baudrate: int) -> None:
        # Zero would mean "hang up" to the driver.
        if not 0 < baudrate < 2**31:
            raise PortError(f"{self.name}: {baudrate} bit/s is not a speed")
        try:
            real = termios2.set_speed(self.fileno(), baudrate)
        except OSError as error:
            raise self._failure(error) from None
        if abs(real - baudrate) > _SPEED_TOLERANCE * baudrate:
            raise PortError(f"{self.name}: its adapter makes {real} of {baudrate} bit/s; choose a speed that it can do")

    def set_parity(self, parity: str) -> None:
        """Send what is written, then switch to parity ``N``, ``E`` or ``O`` (the STM32 ROM wants even)."""
        if parity not in ("N", "E", "O"):
            raise PortError(f"{self.name}: parity {parity!r} is none of N, E, O")
        self.drain()
        try:
            termios2.set_parity(self.fileno(), parity)
        except OSError as error:
            raise self._failure(error) from None

    def set_lines(self, dtr: Optional[bool], rts: Optional[bool]) -> None:
        """Assert or release DTR and RTS, in one step where both are given; ``None`` leaves a line alone."""
        wanted = [(termios.TIOCM_DTR, dtr), (termios.TIOCM_RTS, rts)]
        on = sum(bit for bit, value in wanted if value is True)
        off = sum(bit for bit, value in wanted if value is False)
        if on and off:
            before = self._ioctl(termios.TIOCMGET, 0)
            if before is not None:
                self._ioctl(termios.TIOCMSET, (before | on) & ~off)
        elif on:
            self._ioctl(termios.TIOCMBIS, on)
        elif off:
            self._ioctl(termios.TIOCMBIC, off)

    def modem_inputs(self) -> int:
        """Return the ``TIOCM_*`` bits of the port; none where it has no modem lines."""
        return self._ioctl(termios.TIOCMGET, 0) or 0

    def set_break(self, active: bool) -> None:
        """Hold the transmit line low, or end that."""
        try:
            fcntl.ioctl(self.fileno(), _TIOCSBRK if active else _TIOCCBRK)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise self._failure(error) from None

    def play(self, steps: List[LineStep]) -> None:
        """Run a DTR/RTS sequence with exact timing. Lines that a port lacks are ignored."""
        self.drain()
        for dtr, rts, pause in steps:
            self.set_lines(dtr, rts)
            time.sleep(pause)

    def close(self) -> None:
        """Release the port. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            # The mark outlives us on a pseudo-terminal, whose other end keeps it alive.
            fcntl.ioctl(fd, termios.TIOCNXCL)
        except OSError:
            pass
        try:
            os.close(fd)
        except OSError:
            pass

    def _wait(self, events: int, deadline: float) -> bool:
        """Block until the port is ready or ``deadline`` is past; say which."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        poll = select.poll()
        poll.register(self.fileno(), events)
        return bool(poll.poll(math.ceil(remaining * 1000)))

    def _ioctl(self, request: int, bits: int) -> Optional[int]:
        """Return the bits after a modem line request, or ``None`` where the port has no such lines."""
        try:
            answer = fcntl.ioctl(self.fileno(), request, _BITS.pack(bits))
        except OSError as error:
            # Pseudo-terminals have no modem lines, a few adapters only some.
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise self._failure(error) from None
        return int(_BITS.unpack(answer)[0])

    def _failure(self, error: OSError) -> PortError:
        if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV):
            return PortError(f"{self.name}: unplugged or restarted while in use; check cable and power, then `dmesg`")
        return PortError(f"{self.name}: {error.strerror or error}")


def _held(path: str, offered_by: AbstractSet[int]) -> List[Tuple[int, str]]:
    return [holder for holder in holders(path) if holder[0] not in offered_by]


def _refuse_held(path: str, offered_by: AbstractSet[int]) -> None:
    try:
        device = Path(path).stat()
    except OSError as error:
        raise PortError(_open_failure(path, error)) from None
    if not stat.S_ISCHR(device.st_mode):
        raise PortError(f"{path}: not a serial port")
    found = _held(path, offered_by)
    if found:
        raise PortError(f"{path}: in use by {_holders.describe(found)}; stop it first")


def _open_failure(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{path}: no such port; is the board plugged in? `ls -l /dev/serial/by-path` shows what is"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: no permission to open it; use sudo, or add this user to the port's group (dialout)"
    if error.errno == errno.EBUSY:
        found = _holders.describe(holders(path)) or "a process that only root can see"
        return f"{path}: held exclusively by {found}; stop it first"
    if error.errno in (errno.ENXIO, errno.ENODEV, errno.EIO):
        return f"{path}: the device behind it is gone; unplug and replug the board"
    return f"{path}: {error.strerror or error}"
