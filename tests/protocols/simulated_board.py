"""The simulated BMCU-C for tests of the flasher's side: a real process behind a real pseudo-terminal."""

import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fleetflash.agent.ports import SerialPort

UID = "cdab1a35e2bdc99e"
TIOCMSET = 0x5418
DTR, RTS = 0x002, 0x004


class SimulatedBoard:
    """``python -m fleetflash board bmcu-c`` with its files in ``directory``."""

    def __init__(self, directory: Path, *options: str, image: bytes = b"", protected: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.tty, self.flash = directory / "tty", directory / "flash.bin"
        self.options = directory / "flash.bin.options"
        self.lines_path, self._control_path = directory / "lines", directory / "control"
        if image:
            self.flash.write_bytes(image)
        if protected:
            # RDPR is anything but a55a; the other option bytes as on a real chip (wchisp issue 103).
            self.options.write_text(json.dumps({"rdpr_user": "ff003fc0", "data": "00ff00ff", "wrp": "ffffffff"}))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fleetflash", "board", "bmcu-c", "--uid", UID, "--pty", str(self.tty)),
                *("--flash", str(self.flash), "--control", str(self._control_path)),
                *("--serial-lines", str(self.lines_path), *options),
            ]
        )
        self._control: socket.socket | None = None

    def wait(self) -> "SimulatedBoard":
        """Return when the port is there; several boards start faster side by side."""
        deadline = time.monotonic() + 20
        while not self.tty.exists() or not self._control_path.exists():
            assert time.monotonic() < deadline and self.process.poll() is None, "the simulated board did not start"
            time.sleep(0.01)
        return self

    def do(self, operation: str, **fields: Any) -> dict[str, Any]:
        if self._control is None:
            self._control = socket.socket(socket.AF_UNIX)
            self._control.settimeout(10)
            self._control.connect(str(self._control_path))
            self._replies = self._control.makefile("rb")
        self._control.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._replies.readline())
        assert answer["ok"], answer
        return answer

    def status(self, key: str) -> Any:
        return self.do("status")[key]

    def open(self, device: str = "", baudrate: int = 115200) -> "WiredPort":
        """Open the port as the agent does, with DTR and RTS, which a pseudo-terminal lacks, on the board's socket."""
        port = WiredPort.open(device or str(self.tty), baudrate)
        port.wires.settimeout(10)
        port.wires.connect(str(self.lines_path))
        port.set_lines(True, True)
        return port

    def stop(self) -> None:
        if self._control is not None:
            self._replies.close()
            self._control.close()
        self.process.terminate()
        self.process.wait(10)


class WiredPort(SerialPort):
    """The agent's own port; only the two modem lines go another way."""

    def __init__(self, name: str, fd: int) -> None:
        super().__init__(name, fd)
        self.wires = socket.socket(socket.AF_UNIX)
        self._levels = {DTR: True, RTS: True}

    def set_lines(self, dtr: bool | None, rts: bool | None) -> None:
        for bit, level in ((DTR, dtr), (RTS, rts)):
            self._levels[bit] = self._levels[bit] if level is None else level
        try:
            self.wires.sendall(struct.pack("<II", TIOCMSET, sum(bit for bit, on in self._levels.items() if on)))
            self.wires.recv(4)
        except OSError:
            pass  # not connected yet: the constructor of a port asserts both, as the board expects

    def close(self) -> None:
        super().close()
        self.wires.close()
