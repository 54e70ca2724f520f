"""A chip in simavr that runs real AVR code, with or without a bootloader, its first UART on a pseudo-terminal."""

import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from board_process import DTR, TIOCMGET, TIOCMSET

SOURCE = Path(__file__).with_name("simavr_board.c")
BOOTLOADERS = Path("/usr/share/arduino/hardware/arduino/avr/bootloaders")


@dataclass(frozen=True)
class Arduino:
    """``room``: bytes of flash below the bootloader; ``page``: bytes of flash that are erased at once."""

    mcu: str
    bootloader: str
    signature: str
    room: int
    page: int


UNO = Arduino("atmega328p", "optiboot/optiboot_atmega328.hex", "1e950f", 32 * 1024 - 512, 128)
MEGA = Arduino("atmega2560", "stk500v2/stk500boot_v2_mega2560.hex", "1e9801", 248 * 1024, 256)


def compile_simulator(directory: Path) -> Path:
    """Build the program that runs a chip; Debian's libsimavr-dev is needed."""
    program = directory / "simavr_board"
    compiler = ["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(SOURCE)]
    subprocess.run([*compiler, "-lsimavr"], check=True)
    return program


def to_binary(form: str, source: Path, target: Path) -> None:
    """What a file of code holds, from its lowest address on."""
    subprocess.run(["avr-objcopy", "-I", form, "-O", "binary", str(source), str(target)], check=True)


class SimulatedChip:
    """A chip in simavr, with what ``programmed_board`` uses of a board: its port, and lines that reach reset.

    Like an Arduino's, its reset is tied to DTR by a capacitor: asserting DTR pulls it low for a moment.
    """

    def __init__(self, program: Path, mcu: str, code: Path, address: int, directory: Path) -> None:
        self.dump_path = directory / "dump.bin"
        self.process = subprocess.Popen(
            [program, mcu, code, hex(address), self.dump_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tty = Path(self._line())
        self._bits = 0

    @classmethod
    def with_bootloader(cls, program: Path, arduino: Arduino, directory: Path) -> Self:
        """A chip that holds nothing but the bootloader that Debian ships for it."""
        bootloader = directory / "bootloader.bin"
        to_binary("ihex", BOOTLOADERS / arduino.bootloader, bootloader)
        return cls(program, arduino.mcu, bootloader, arduino.room, directory)

    def lines(self, request: int, bits: int = 0) -> int:
        """The modem lines, by ``ioctl``'s requests; parity, which is asked for the same way, nobody needs here."""
        if request == TIOCMSET:
            if bits & ~self._bits & DTR:
                self._say("r")
            self._bits = bits
        return self._bits if request == TIOCMGET else 0

    def flash(self) -> bytes:
        self._say("d")
        assert self._line() == "dumped"
        return self.dump_path.read_bytes()

    def stop(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(10)
        self.process.stdout.close()
        assert code == 0, "the simulated chip has crashed"

    def _say(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def _line(self) -> str:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 30)[0], "the simulated chip says nothing"
        return self.process.stdout.readline().strip()
