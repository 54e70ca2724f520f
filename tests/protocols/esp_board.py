"""A simulated ESP board for tests, and Espressif's own esptool to judge it: two processes and a pseudo-terminal."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fleetflash.lab

MAC = "24:0a:c4:00:be:ef"
SHIM = Path(fleetflash.lab.__file__).parent / "shim" / "ioctl.c"


class EspDevice:
    """``fleetflash board <kind>`` with its files in a directory of its own (unix sockets have short names)."""

    def __init__(self, kind: str, *options: str, image: bytes = b"") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ff-")
        self.directory = Path(self._directory.name)
        self.kind = kind
        self.tty, self.flash = self.directory / "tty", self.directory / "flash.bin"
        self.log, self.lines = self.directory / "log", self.directory / "lines"
        self._control_path = self.directory / "control"
        self._options = options
        self.flash.write_bytes(image)
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fleetflash", "board", self.kind, "--uid", MAC, "--pty", str(self.tty)),
                *("--flash", str(self.flash), "--log", str(self.log)),
                *("--control", str(self._control_path), "--serial-lines", str(self.lines), *self._options),
            ]
        )
        wait_for(lambda: (self.tty.exists() and self._control_path.exists()) or self.process.poll() is not None)
        assert self.process.poll() is None, "the simulated board did not start"

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20)
            control.connect(str(self._control_path))
            control.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
            with control.makefile("rb") as replies:
                answer: dict[str, Any] = json.loads(replies.readline())
        return answer

    def do(self, operation: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask(operation, **fields)
        assert answer["ok"], answer
        return answer

    def status(self, key: str) -> Any:
        return self.do("status")[key]

    def download_mode(self) -> "EspDevice":
        """Hold BOOT, tap EN."""
        self.do("press")
        wait_for(lambda: self.status("mode") == "bootloader")
        return self

    def esptool(self, *arguments: str, stub: bool = True, stub_version: str = "", baud: int = 921600) -> str:
        """Run esptool on a board that is in download mode already, and leave it there; what it printed."""
        chosen = ["--after", "no-reset-stub"] if stub else ["--after", "no-reset", "--no-stub"]
        result = self.run_esptool(
            *("--before", "no-reset", "--baud", str(baud), *chosen, *arguments),
            stub_version=stub_version,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def run_esptool(
        self, *arguments: str, stub_version: str = "", preload: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        environment.pop("ESPTOOL_STUB_VERSION", None)
        if stub_version:
            environment["ESPTOOL_STUB_VERSION"] = stub_version
        if preload:
            environment["LD_PRELOAD"] = str(preload)
        return subprocess.run(
            [sys.executable, "-m", "esptool", "--port", str(self.tty), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )

    def modem_shim(self) -> Path:
        """The lab's library for modem lines, built for this board's directory instead of the hosts'."""
        library, places = self.directory / "lines.so", self.directory / "places"
        place = f'-DLINES="{places}"'
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", place, "-o", str(library), str(SHIM)], check=True)
        terminal = self.tty.stat()
        places.mkdir()
        (places / f"{terminal.st_dev:x}-{terminal.st_rdev:x}").symlink_to(self.lines)
        return library

    def unplug(self) -> None:
        """Kill it: what has reached the flash stays."""
        self.process.kill()
        self.process.wait(10)

    def plug(self) -> None:
        self.tty.unlink(missing_ok=True)
        self._control_path.unlink(missing_ok=True)
        self._start()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._directory.cleanup()


def wait_for(condition: Any, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def field(output: str, name: str) -> str:
    """The value behind a title in esptool's output."""
    found = re.search(rf"^{re.escape(name)}:\s*(.*?)\s*$", output, re.MULTILINE)
    assert found, f"no {name!r} in:\n{output}"
    return found[1]
