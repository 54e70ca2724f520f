"""A simulated board as the lab runs it: a process outside the hosts, with its flash in the lab's directory."""

import time
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab import cgroup, klipper, process
from fleetflash.lab.boards.kinds import KINDS, Kind
from fleetflash.lab.control import Control
from fleetflash.lab.errors import LabError
from fleetflash.lab.layout import Layout
from fleetflash.lab.spec import BoardSpec, HostSpec
from fleetflash.lab.sysfs import UsbSerial
from fleetflash.lab.usb import CH340, Enumerated, UsbDevice, announced, announcement

_ERASED = b"\xff"


@dataclass(frozen=True)
class Board:
    """One board of one host. Its process is its power: a board that is not plugged in does not run."""

    layout: Layout
    host: HostSpec
    spec: BoardSpec

    @property
    def directory(self) -> Path:
        return self.layout.board(self.host.name, self.spec.name)

    @property
    def flash(self) -> Path:
        """The content of the chip's flash; it outlives the process."""
        return self.directory / "flash.bin"

    @property
    def pty(self) -> Path:
        """A link to the board's pseudo-terminal while it runs."""
        return self.directory / "pty"

    @property
    def lines(self) -> Path:
        """The board's socket for modem lines, in the directory that the host sees."""
        return lines_directory(self.layout, self.host.name) / self.spec.name

    @property
    def log(self) -> Path:
        return self.directory / "board.log"

    @property
    def control(self) -> Control:
        return Control(self.directory / "control")

    @property
    def running(self) -> bool:
        return bool(cgroup.pids(self._group))

    @property
    def wanted(self) -> bool:
        """Whether it is (to be) plugged in whenever its host runs."""
        return not self._unplugged.exists()

    def want(self, plugged: bool) -> None:
        """Remember whether it shall be plugged in."""
        if plugged:
            self._unplugged.unlink(missing_ok=True)
        else:
            self._unplugged.touch()

    @property
    def kind(self) -> Kind:
        return KINDS[self.spec.kind]

    @property
    def enumerated(self) -> Enumerated | None:
        """What the host's USB sees of the board just now; nothing of one that is off, or between two of its lives."""
        if not self.running:
            return None
        if self.kind.usb:
            found = announced(announcement(self.pty))
            return found if found and Path(found.terminal).exists() else None
        return Enumerated(CH340, str(self.pty.resolve()))

    def usb(self, tty: str, device: UsbDevice) -> UsbSerial:
        socket = klipper.socket_of(self.host.boards, self.spec)
        return UsbSerial(tty, socket, device, klipper.driver_of(self.spec))

    def make(self, content: bytes) -> None:
        """Lay out the board as it leaves the factory, with this at the beginning of its flash."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.flash.write_bytes(content.ljust(self.kind.flash_size, _ERASED))

    def start(self, timeout: float = 15.0) -> None:
        """Power it; returns when its sockets are there, and the port of one that sits behind a bridge."""
        self.launch()
        self.wait_started(timeout)

    def launch(self) -> None:
        """Power it without waiting, so that several start side by side."""
        if self.running:
            return
        for stale in (self.pty, announcement(self.pty), self.lines, self.control.path):
            stale.unlink(missing_ok=True)
        process.detach(cgroup.create(self._group), self._command(), self.directory / "process.log")

    def wait_started(self, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        # A chip with a USB port of its own comes by itself, later, or never when nothing on it runs.
        needed = (self.lines, self.control.path) if self.kind.usb else (self.pty, self.lines, self.control.path)
        while not all(path.exists() for path in needed):
            if not self.running or time.monotonic() > deadline:
                said = process.tail(self.directory / "process.log")
                raise LabError(f"{self.host.name}: board {self.spec.name} does not start: {said}")
            time.sleep(0.01)
        # Programs of every user of the host set modem lines; the port itself is guarded by its own mode.
        self.lines.chmod(0o666)

    def stop(self) -> None:
        """End it in an orderly way."""
        cgroup.terminate(self._group, timeout=3.0)
        cgroup.remove(self._group)

    def cut_power(self) -> None:
        """End it at once; whatever has reached the flash stays."""
        cgroup.kill(self._group)
        cgroup.remove(self._group)

    @property
    def _group(self) -> str:
        return self.layout.cgroup(f"board.{self.host.name}.{self.spec.name}")

    @property
    def _unplugged(self) -> Path:
        return self.directory / "unplugged"

    def _command(self) -> list[str]:
        spec = self.spec
        program = spec.command or process.python("-m", "fleetflash", "board", spec.kind)
        identity = ["--uid", spec.uid] if spec.uid else []
        places = ["--pty", self.pty, "--flash", self.flash, "--serial-lines", self.lines]
        places += ["--control", self.control.path, "--log", self.log]
        if self.kind.usb:
            places += ["--host", news_socket(self.layout, self.host.name)]
        return [*program, *map(str, places), *identity, "--entry", spec.entry, *spec.options]


def lines_directory(layout: Layout, host: str) -> Path:
    """Where a host's boards have their sockets for modem lines; the host sees it as /run/fleetflash-lines."""
    return layout.host(host) / "lines"


def news_socket(layout: Layout, host: str) -> Path:
    """Where a host's supervisor hears that a board has become another USB device."""
    return layout.host(host) / "usb"
