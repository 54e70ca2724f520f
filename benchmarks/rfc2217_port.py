"""pyserial's stock RFC 2217 client as the port that a programmer works on, and the server on a host beside it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import serial

from fleetflash.agent.port import LineStep
from fleetflash.lab.host import Host

SERVER = Path(__file__).with_name("rfc2217_server.py")
TCP_PORT = 2217
PIECE_SECONDS = 0.1


@contextmanager
def server(host: Host, device: str) -> Iterator[None]:
    """Serve a port of the host on its TCP port 2217."""
    host.run("cat > rfc2217_server.py", stdin=SERVER.read_text(), check=True)
    command = f"klippy-env/bin/python rfc2217_server.py {device} {TCP_PORT}"
    started = host.run(
        f"nohup {command} > rfc2217.log 2>&1 & echo $!; until grep -q listening rfc2217.log; do sleep 0.02; done",
        check=True,
        timeout=20,
    )
    pid = int(started.stdout)
    try:
        yield
    finally:
        host.run(f"kill {pid}; rm rfc2217.log")


class Rfc2217Port:
    """Implements the agent's ``Port``, as kindly as it can: the client would negotiate anew for every other timeout, so
    one short timeout is set once, and read again and again."""

    def __init__(self, number: int, baudrate: int) -> None:
        self.name = f"rfc2217://127.0.0.1:{number}"
        self._serial = serial.serial_for_url(self.name, baudrate, timeout=PIECE_SECONDS)

    def read(self, size: int, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        data = b""
        while len(data) < size and time.monotonic() < deadline:
            data += self._serial.read(size - len(data))
        return data

    def write(self, data: bytes) -> None:
        self._serial.write(data)

    def discard_input(self) -> None:
        self._serial.reset_input_buffer()

    def set_baudrate(self, baudrate: int) -> None:
        self._serial.baudrate = baudrate

    def set_parity(self, parity: str) -> None:
        self._serial.parity = parity

    def play(self, steps: list[LineStep]) -> None:
        for dtr, rts, pause in steps:
            if dtr is not None:
                self._serial.dtr = dtr
            if rts is not None:
                self._serial.rts = rts
            time.sleep(pause)

    def close(self) -> None:
        self._serial.close()
