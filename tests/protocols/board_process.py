"""A simulated board of any kind as a process, with the tester's ends of its sockets and ports.

Frames are built here or in the tests, never by the product's flashers.
"""

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import serial

SHIM = Path(__file__).parents[2] / "fleetflash/lab/shim/ioctl.c"
DTR, RTS = 0x002, 0x004
TIOCMGET, TIOCMBIS, TIOCMBIC, TIOCMSET = 0x5415, 0x5416, 0x5417, 0x5418
TCSETS = 0x5402
PARENB, PARODD = 0x100, 0x200


def wait_for(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


class BoardProcess:
    """``python -m fleetflash board KIND`` with its files in ``directory``.

    ``has_port``: wait for its port, which a USB board has only while something runs on it.
    """

    def __init__(
        self, kind: str, directory: Path, *options: str, flash: bytes | None = None, has_port: bool = True
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.flash_path = directory / "flash.bin"
        if flash is not None:
            self.flash_path.write_bytes(flash)
        self.tty = directory / "tty"
        self._control_path, self._lines_path = directory / "control", directory / "lines"
        for stale in (self.tty, self._control_path):
            stale.unlink(missing_ok=True)
        files = ["--pty", self.tty, "--flash", self.flash_path, "--log", directory / "board.log"]
        files += ["--control", self._control_path, "--serial-lines", self._lines_path]
        command = [sys.executable, "-m", "fleetflash", "board", kind, *map(str, files), *options]
        self.process = subprocess.Popen(command)
        try:
            wait_for(lambda: self._control_path.exists() and (self.tty.exists() or not has_port), 20)
            self._control = connect(self._control_path)
        except BaseException:
            self.process.kill()
            raise
        self._replies = self._control.makefile("rb")
        self._lines: socket.socket | None = None

    # The operator

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self._control.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._replies.readline())
        return answer

    def do(self, op: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask(op, **fields)
        assert answer["ok"], answer
        return answer

    def status(self, key: str) -> Any:
        return self.do("status")[key]

    @property
    def mode(self) -> str:
        return str(self.status("mode"))

    def press(self) -> None:
        """Enter the bootloader by hand; returns when it listens."""
        self.do("press")
        time.sleep(0.03)

    def flash(self) -> bytes:
        return self.flash_path.read_bytes()

    def log(self) -> str:
        return (self.directory / "board.log").read_text()

    # Modem lines and parity, as the shim would carry them

    def lines(self, request: int, bits: int = 0) -> int:
        if self._lines is None:
            self._lines = connect(self._lines_path)
        self._lines.sendall(struct.pack("<II", request, bits))
        return int(struct.unpack("<I", self._lines.recv(4))[0])

    def shim(self, cc: str = "gcc") -> dict[str, str]:
        """An environment in which a program's modem lines and parity reach this board."""
        library, sockets = self.directory / "shim.so", self.directory / "sockets"
        if not library.exists():
            where = f'-DLINES="{sockets}"'
            subprocess.run([cc, "-O2", "-shared", "-fPIC", where, "-o", str(library), str(SHIM)], check=True)
            sockets.mkdir()
        for stale in sockets.iterdir():
            stale.unlink()
        status = self.tty.stat()
        (sockets / f"{status.st_dev:x}-{status.st_rdev:x}").symlink_to(self._lines_path)
        return {**os.environ, "LD_PRELOAD": str(library)}

    def run(self, *command: str, shim: bool = True, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run an independent tool; it finds the port as ``self.tty``."""
        environment = self.shim() if shim else dict(os.environ)
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)

    # The end

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(10)
        self._replies.close()
        self._control.close()
        if self._lines is not None:
            self._lines.close()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def missing(*tools: str) -> str:
    """Which of these programs are not installed: the reason for skipping a test, or nothing."""
    return ", ".join(tool for tool in tools if shutil.which(tool) is None)


class Port:
    """A tester's serial port: raw bytes at a rate."""

    def __init__(self, path: Path, baud: int = 115200) -> None:
        self.serial = serial.Serial(str(path), baud, timeout=0)
        self.fd: int = self.serial.fileno()
        self._early = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.serial.close()

    def read(self, timeout: float, enough: int | None = None) -> bytes:
        """What arrives until ``timeout``, or the first ``enough`` bytes; more is kept for the next read."""
        deadline, data = time.monotonic() + timeout, self._early
        while (left := deadline - time.monotonic()) > 0 and (enough is None or len(data) < enough):
            if select.select([self.fd], [], [], left)[0]:
                data += os.read(self.fd, 4096)
        enough = len(data) if enough is None else enough
        self._early = data[enough:]
        return data[:enough]

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.fd, data) :]

    def ask(self, request: str, length: int, timeout: float = 2.0) -> str:
        """Send a golden request; the first ``length`` bytes of the answer. Both in hexadecimal."""
        self.write(bytes.fromhex(request))
        return self.read(timeout, length).hex()


def klipper_block(sequence: int, payload: bytes) -> bytes:
    """Klipper docs/Protocol.md; the CRC is CRC-16/MCRF4XX, here as a bitwise loop of its own."""
    head = bytes([len(payload) + 5, 0x10 | sequence]) + payload
    return head + struct.pack(">H", crc16(head)) + b"\x7e"


def crc16(data: bytes) -> int:
    """CRC-16/MCRF4XX: reflected 0x1021, start 0xFFFF."""
    crc = 0xFFFF
    for value in data:
        crc ^= value
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
    return crc


def identify(port: Port) -> dict[str, Any]:
    """Fetch a running application's dictionary as klippy does, 40 bytes at a time, from whatever sequence it is at."""
    data = b""
    port.read(0.1)  # what it said as it started
    # Adopt the board's sequence number: the acknowledgement of a block that is out of turn names it.
    port.write(klipper_block(7, b""))
    answer = port.read(1.0, 5)
    assert len(answer) == 5, f"no answer from the application: {answer.hex()}"
    sequence = answer[1] & 15
    while True:
        offset = len(data)
        # Two groups of seven bits hold what a dictionary's length needs (docs/Protocol.md, variable length quantities).
        coded = bytes([0x80 | offset >> 7 & 0x7F, offset & 0x7F]) if offset else b"\0"
        port.write(klipper_block(sequence, b"\x01" + coded + b"\x28"))
        sequence = sequence + 1 & 15
        head = port.read(1.0, 1)
        raw = head + port.read(1.0, head[0] - 1)
        acknowledgement = port.read(1.0, 5)
        assert raw == klipper_block(sequence, raw[2:-3])
        assert acknowledgement == klipper_block(sequence, b"")
        body = raw[2:-3]
        length_at = 1 + (1 if not offset else len(coded) if body[1] & 0x80 else 1)
        piece = body[length_at + 1 :]
        assert body[0] == 0
        assert body[length_at] == len(piece)
        if not piece:
            break
        data += piece
    dictionary: dict[str, Any] = json.loads(zlib.decompress(data))
    return dictionary
