"""A pseudo-terminal as a board would see it: the tests hold the far end, the code under test opens ``path``."""

import errno
import os
import pty
import select
import struct
import threading
import time
from fcntl import ioctl
from types import TracebackType
from typing import Self

_TCGETS2 = 0x802C542A


class PseudoTerminal:
    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        # Held open here, it would make this process a holder of the port.
        os.close(slave)
        self._stop = threading.Event()
        self._echo: threading.Thread | None = None

    def speed(self) -> int:
        """The speed in bit/s that the port was set to, exactly."""
        return int(struct.unpack("4IB19s2I", ioctl(self.master, _TCGETS2, bytes(44)))[7])

    def control_flags(self) -> int:
        return int(struct.unpack("4IB19s2I", ioctl(self.master, _TCGETS2, bytes(44)))[2])

    def read(self, size: int, timeout: float = 5.0) -> bytes:
        deadline = time.monotonic() + timeout
        data = b""
        while len(data) < size and time.monotonic() < deadline:
            if not select.select([self.master], [], [], deadline - time.monotonic())[0]:
                break
            try:
                data += os.read(self.master, size - len(data))
            except OSError as error:
                # Nobody has the port open yet.
                if error.errno != errno.EIO:
                    raise
                time.sleep(0.005)
        return data

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._stop.is_set():
            if select.select([], [self.master], [], 0.1)[1]:
                rest = rest[os.write(self.master, rest[:1024]) :]

    def echo(self) -> None:
        """Send everything back from now on."""
        self._echo = threading.Thread(target=self._run_echo, daemon=True)
        self._echo.start()

    def _run_echo(self) -> None:
        while not self._stop.is_set():
            if not select.select([self.master], [], [], 0.1)[0]:
                continue
            try:
                self.write(os.read(self.master, 65536))
            except OSError:
                # Nobody has the port open.
                time.sleep(0.005)

    def unplug(self) -> None:
        self._stop.set()
        if self._echo is not None:
            self._echo.join()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
