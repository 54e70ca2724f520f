"""Real AVR code in simavr, with its UART0 on a pseudo-terminal."""

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE = Path(__file__).with_suffix(".c")


def build(directory: Path) -> Path:
    """Compile the program that runs a chip; Debian's libsimavr-dev and libelf-dev are needed."""
    program = directory / "simavr"
    command = ["gcc", "-O2", "-Wall", "-o", str(program), str(SOURCE), "-lsimavr", "-lutil"]
    subprocess.run(command, check=True)
    return program


class SimulatedChip:
    """A running chip; ``path`` is its serial port as long as the ``with`` block lasts."""

    def __init__(self, program: Path, elf: Path, link: Path, mcu: str = "atmega328p", frequency: int = 16_000_000):
        self._command = [str(program), mcu, str(frequency), str(elf), str(link)]
        self._link = link

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._link.is_symlink():
            assert self._process.poll() is None, f"simavr ended with {self._process.returncode}"
            assert time.monotonic() < deadline, "simavr does not start"
            time.sleep(0.01)
        return self

    @property
    def path(self) -> str:
        return os.path.realpath(self._link)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._link.unlink(missing_ok=True)
