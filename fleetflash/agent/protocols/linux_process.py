"""A Klipper micro-controller that is a process of the host itself: its flash is a program file, its bootloader systemd.

Source of the facts: Klipper's ``docs/RPi_microcontroller.md`` and ``scripts/klipper-mcu.service`` (unit, program, the
pseudo-terminal at /tmp/klipper_host_mcu), ``src/linux/Makefile`` (what ``make flash`` installs: the linked program).
"""

import hashlib
import os
import stat
import sys
from pathlib import Path

from fleetflash.agent import disk, systemd
from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import ProtocolError, RefusedError, VerifyError
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.schema import Entry

#: What marks a service that was stopped here, until it runs again; a boot starts it and clears the marks.
RUN = Path("/run/fleetflash")
CHIP_ID = "linux"
ELF_MAGIC = b"\x7fELF"
_HEADER_BYTES = 20


class LinuxProcessProgrammer:
    """``port`` is not spoken through; it names the pseudo-terminal in messages."""

    capabilities = Capabilities(
        read_back=True,
        entries=("none",),
        tells_uid=False,
        connection="process",
        options={"unit": "klipper-mcu.service", "binary": "/usr/local/bin/klipper_mcu"},
        pace=Pace(baudrate=100_000_000, chunk=65536, overhead=0, fixed=3.0),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        options = {**self.capabilities.options, **target.options}
        self.unit, self.binary = options["unit"], Path(options["binary"])
        self._mark = RUN / f"{self.unit}.stopped"

    def enter(self, entry: Entry, ask: Ask) -> None:
        try:
            if systemd.show(self.unit, ["LoadState"]).get("LoadState") != "loaded":
                raise ProtocolError(
                    f"{self.port.name}: the host has no {self.unit}; name its unit in options, or install it as "
                    "Klipper's docs/RPi_microcontroller.md says"
                )
            if systemd.is_active(self.unit):
                self._mark.parent.mkdir(parents=True, exist_ok=True)
                self._mark.touch()
                systemd.stop(self.unit)
        except systemd.SystemdError as error:
            raise ProtocolError(f"{self.port.name}: {error}") from error

    def probe(self) -> Found:
        return Found(chip_id=CHIP_ID, uid="")

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        raise ProtocolError(f"{self.port.name}: a process has no read protection; leave unprotect out for this board")

    def read(self, progress: Progress) -> bytes:
        try:
            data = self.binary.read_bytes()
        except FileNotFoundError:
            return b""
        progress(len(data), len(data))
        return data

    def write(self, image: bytes, progress: Progress) -> None:
        """Replace the program in one step; raises ``RefusedError`` for one that this machine can't run."""
        own = Path(sys.executable).read_bytes()[:_HEADER_BYTES]
        if not image.startswith(ELF_MAGIC) or _machine(image) != _machine(own):
            raise RefusedError(
                f"{self.port.name}: the image is no program for this machine: it begins {image[:_HEADER_BYTES].hex()}, "
                f"this machine's begin {own.hex()}; build Klipper for 'Linux process' on such a host. {self.binary} is "
                "as it was"
            )
        try:
            mode = stat.S_IMODE(self.binary.stat().st_mode) | stat.S_IXUSR if self.binary.exists() else 0o755
            disk.write_file(self.binary, image, mode)
        except OSError as error:
            raise ProtocolError(f"{self.port.name}: {self.binary}: {error.strerror or error}") from error
        progress(len(image), len(image))

    def verify(self, image: bytes, progress: Progress) -> None:
        found, expected = disk.sha256_file(self.binary), hashlib.sha256(image).hexdigest()
        if found != expected or not os.access(str(self.binary), os.X_OK):
            raise VerifyError(
                f"{self.port.name}: verify: {self.binary} has sha256 {found[:12] or 'none'}, expected {expected[:12]}"
            )
        progress(len(image), len(image))

    def reset(self) -> None:
        try:
            systemd.start(self.unit)
        except systemd.SystemdError as error:
            raise ProtocolError(f"{self.port.name}: {error}") from error
        if self._mark.exists():
            self._mark.unlink()

    def leave(self) -> None:
        if self._mark.exists():
            self.reset()


def _machine(program: bytes) -> bytes:
    """Return an ELF program's word size, byte order and machine (``elf(5)``, EI_CLASS, EI_DATA, e_machine)."""
    return program[4:6] + program[18:20]
