"""A simulated ``klipper_mcu``: Klipper's micro-controller code as a process of the host, on a pseudo-terminal.

Sources: Klipper's ``scripts/klipper-mcu.service`` (the unit) and ``src/linux/console.c`` (both ends of the terminal
stay open, a link leads to it, its group may open it). The program is a real ELF file, which starts this module; its
data dictionary lies behind it, as klippy and an artifact store find it in a real one.

``python -m fleetflash.lab.host_mcu PROGRAM LINK`` runs it.
"""

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from fleetflash.lab.boards.circuit import Counters
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.line import ANY_RATE, Line
from fleetflash.lab.boards.loop import Loop
from fleetflash.lab.image import Firmware, build_dictionary

TRAILER = struct.Struct("<8sI")
MAGIC = b"HOSTMCU\0"
CLOCK_HZ = 50_000_000  # CONFIG_CLOCK_FREQ of the Linux process
LAUNCHER = """
#include <unistd.h>
int main(int count, char **words) {
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length < 0) return 1;
    self[length] = 0;
    execl("/usr/bin/python3", "python3", "-m", "fleetflash.lab.host_mcu", self, words[count - 1], (char *)0);
    return 1;
}
"""
UNIT = """\
[Unit]
Description=Starts the MCU Linux firmware for klipper on startup
Before=klipper.service
ConditionFileIsExecutable=/usr/local/bin/klipper_mcu

[Install]
WantedBy=multi-user.target

[Service]
Type=simple
Environment=PYTHONPATH=/opt/host-mcu
RemainAfterExit=yes
ExecStart=/usr/local/bin/klipper_mcu -r -I /tmp/klipper_host_mcu
Restart=always
RestartSec=1
"""


def build_program(version: str, directory: Path) -> bytes:
    """Compile a program that is ``version``; needs gcc, and ``directory`` for its files."""
    source, binary = directory / "launcher.c", directory / "launcher"
    if not binary.exists():
        source.write_text(LAUNCHER)
        subprocess.run(["gcc", "-O1", "-o", str(binary), str(source)], check=True)
    constants = {"CLOCK_FREQ": CLOCK_HZ}
    dictionary = build_dictionary(
        version, mcu="linux", baud=250000, build_versions="gcc: (lab) 12.2.0", constants=constants
    )
    packed = zlib.compress(json.dumps(dictionary, sort_keys=True).encode(), 9)
    return binary.read_bytes() + packed + TRAILER.pack(MAGIC, len(packed))


def read_program(program: bytes) -> Firmware:
    """Return what a program is; raises ``ValueError`` for any other file."""
    magic, length = TRAILER.unpack(program[-TRAILER.size :])
    if magic != MAGIC:
        raise ValueError("no simulated klipper_mcu")
    packed = program[-TRAILER.size - length : -TRAILER.size]
    dictionary = json.loads(zlib.decompress(packed))
    return Firmware(dictionary["version"], dictionary, packed, 250000, CLOCK_HZ)


class HostMcu:
    """The ``Circuit`` of the application: a process has no pins and no power of its own."""

    def __init__(self, program: Path, link: Path) -> None:
        self.loop = Loop()
        self.faults = Faults()
        self.counters = Counters()
        self._program, self._link = program, link
        self._line = Line(self.loop, lambda data, _baud, at: self._app.receive(data, ANY_RATE, at), usb=True)
        self._line.attach()
        os.chmod(self._line.path, 0o660)
        self._line.publish(link)
        self._app = KlipperApp(self, read_program(program.read_bytes()), time.monotonic())

    def send(self, data: bytes, baud: int, at: float) -> float:
        return self._line.send(data, baud, at)

    def software_reset(self, at: float) -> None:
        """The process replaces itself, as it was started."""
        os.execv(sys.executable, [sys.executable, "-m", "fleetflash.lab.host_mcu", str(self._program), str(self._link)])

    def power_cut(self) -> None:
        os._exit(1)

    def stall(self, go_on: Callable[[], None] | None) -> None:
        """No fault is ever planned for it, so it never stands still."""

    def log(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    HostMcu(Path(sys.argv[1]), Path(sys.argv[2])).loop.run()
