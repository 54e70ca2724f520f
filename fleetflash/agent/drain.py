"""Waiting for a port's output without standing still: ``tcdrain`` can neither be polled nor timed."""

import os
import threading
from typing import Optional

from fleetflash.agent.port import PortError
from fleetflash.agent.ports import SerialPort


class Drain:
    """Waits in a thread until the port has sent everything; ``fd`` becomes readable when it is ``over``."""

    def __init__(self, port: SerialPort) -> None:
        self.over = False
        self._error: Optional[PortError] = None
        self.fd, self._signal = os.pipe()
        self._port = port
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._port.drain()
        except PortError as error:
            self._error = error
        self.over = True
        os.close(self._signal)

    def finish(self) -> None:
        os.close(self.fd)
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        os.close(self.fd)
