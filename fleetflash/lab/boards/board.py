"""What every simulated board has: power, reset, buttons, a port, and an operator at its control socket.

A kind of board is a subclass that says what runs after a reset (``boot``) and what it is (``describe``).
"""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fleetflash.lab.boards.boot import Boot, Cause
from fleetflash.lab.boards.circuit import Counters, Program
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.line import Line
from fleetflash.lab.boards.loop import Loop, Timer
from fleetflash.lab.boards.modem import ALL_LINES, ModemLines, ModemServer, Wiring
from fleetflash.lab.boards.operator import Operator
from fleetflash.lab.boards.reset_pin import LevelReset, NoReset, ResetPin
from fleetflash.lab.image import Firmware

BOOT_LOOP_TIME = 0.050


@dataclass(frozen=True)
class Settings:
    """How a board is built and plugged in; the part of the command line that every kind has."""

    pty: Path
    flash: Path
    wiring: Wiring | None = None  # None: modem lines lead nowhere, only its buttons enter the bootloader
    start_in_bootloader: bool = False
    serial_lines: Path | None = None
    control: Path | None = None
    log: Path | None = None
    host: Path | None = None  # socket of the host that wants to hear when the board's USB device changes


class Board(ABC):
    """A chip, its port and its pins. It is the ``Circuit`` of the program that runs on it.

    Modes: ``application``, ``bootloader``, ``dead`` (nothing that runs), ``off`` (or held in reset).
    """

    def __init__(self, settings: Settings, *, usb: bool = False, reset: ResetPin | None = None) -> None:
        self.loop = Loop()
        self.faults = Faults()
        self.counters = Counters()
        self.settings = settings
        self.line = Line(self.loop, self._received, usb=usb)
        self.modem = ModemLines(self.lines_changed, self.first_lines)
        wired: ResetPin = LevelReset(self.loop, settings.wiring) if settings.wiring else NoReset()
        self.reset_pin = reset or wired
        self.mode = "off"
        self.paused = False
        self.powered = False
        self._log_file: TextIO | None = settings.log.open("a", buffering=1) if settings.log else None
        self._boot_timer: Timer | None = None
        self.program: Program | None = None
        self._go_on: Callable[[], None] | None = None
        self._operator = Operator(self)

    #: DTR and RTS before anybody has opened the port.
    first_lines = ALL_LINES

    # What a kind of board says

    @abstractmethod
    def boot(self, cause: Cause, *, asked: bool) -> Boot:
        """What runs after a reset; ``asked``: boot pin or button ask for the bootloader."""

    @abstractmethod
    def firmware(self) -> Firmware | None:
        """The application in flash, if it would run."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What status says beyond the common part: the chip, its ids and its protection."""

    # Life of the process

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the link exists only meanwhile."""
        settings = self.settings
        if settings.pty.is_symlink():
            # Left behind by a killed board; its number may be somebody else's terminal by now.
            settings.pty.unlink()
        self._catch_signals()
        servers = [self._operator.serve(settings.control)] if settings.control else []
        lines = ModemServer(self.loop, settings.serial_lines, self.modem) if settings.serial_lines else None
        self.plug_in()
        try:
            self.loop.run()
        finally:
            self.pull_out()
            for server in servers:
                server.close()
            if lines:
                lines.close()

    def plug_in(self) -> None:
        """The cable is in: there is a port (the bridge's), then power."""
        self.line.attach()
        self.power_on()
        self.line.publish(self.settings.pty)
        self.log(f"ready on {self.line.path}")

    def pull_out(self) -> None:
        """The end of the process."""
        self.line.withdraw(self.settings.pty)

    def _catch_signals(self) -> None:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        self._wake = wake, woken
        signal.set_wakeup_fd(woken.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.loop.stop())
        self.loop.add_reader(wake.fileno(), lambda: None)

    def log(self, text: str) -> None:
        if self._log_file:
            self._log_file.write(f"{time.time():.3f} {text}\n")

    # Circuit: what the running program may do

    def send(self, data: bytes, baud: int, at: float) -> float:
        return self.line.send(data, baud, at)

    def software_reset(self, at: float) -> None:
        self._restart(Cause.SOFTWARE, at)

    def watchdog_reset(self, at: float) -> None:
        self._restart(Cause.WATCHDOG, at)

    def power_cut(self) -> None:
        self.power_off()

    def stall(self, go_on: Callable[[], None] | None) -> None:
        self.paused = True
        self._go_on = go_on
        self._operator.tell_paused()

    def resume(self) -> None:
        """Go on after a pause; raises ValueError when there is nothing to go on with."""
        if not self.paused:
            raise ValueError("the board is not paused")
        if self._go_on is None:
            raise ValueError("the board hangs; reset it or cycle its power")
        go_on, self._go_on, self.paused = self._go_on, None, False
        go_on()

    def leave(self, to: Callable[[], Boot], at: float) -> None:
        """Jump to another program without a reset, once everything transmitted is out."""
        self._afterwards(lambda due: self.become(to(), due), at)

    def _restart(self, cause: Cause, at: float) -> None:
        self._afterwards(lambda due: self.start(cause, due), at)

    def _afterwards(self, act: Callable[[float], None], at: float) -> None:
        program = self.program
        done = self.line.send(b"", 115200, at)

        def run(due: float) -> None:
            if self.program is program:
                act(due)

        # A moment later, so that the last bytes leave before the line falls silent.
        self.loop.at(done + 1e-6, run)

    # Power, reset, boot

    def power_on(self) -> None:
        self.powered = True
        if not self.reset_pin.power_on(self.modem.bits):
            cause = Cause.BUTTON if self.settings.start_in_bootloader else Cause.POWER
            self.start(cause, time.monotonic())

    def power_off(self) -> None:
        self.powered = False
        self.reset_pin.power_off()
        self._stop_program()
        self._set_mode("off")

    def start(self, cause: Cause, at: float) -> None:
        """Leave reset: from here the chip needs ``BOOT_TIME`` until it listens."""
        self._stop_program()
        self._set_mode("off")
        self.counters.resets += 1
        asked = cause is Cause.BUTTON or self.reset_pin.asked(self.modem.bits)
        self.become(self.boot(cause, asked=asked), at)

    def become(self, boot: Boot, at: float) -> None:
        """Run something else from now on, after a reset or by a jump."""
        self._stop_program()
        self._set_mode(boot.mode)
        if boot.program:
            self._boot_timer = self.loop.at(at + boot.after, lambda due: self._run(boot, due))

    def later(self, seconds: float, act: Callable[[float], None]) -> None:
        """Do something before the next program starts, unless reset or power come between."""
        self._boot_timer = self.loop.at(time.monotonic() + seconds, act)

    def refuses_bootloader(self) -> bool:
        """Whether the fault ``refuse_bootloader`` strikes at this start, which would enter the bootloader."""
        refused = self.faults.take_boot("refuse_bootloader")
        if refused:
            self.log("fault refuse_bootloader")
        return refused

    def hold_in_reset(self) -> None:
        self._stop_program()
        self._set_mode("off")

    def release_reset(self) -> None:
        self.start(Cause.PINS, time.monotonic())

    def _run(self, boot: Boot, due: float) -> None:
        assert boot.program is not None
        program = boot.program(due)
        self.program = program
        self.line.chip_parity = program.parity
        if boot.mode == "application":
            self.application_runs(due)

    def application_runs(self, due: float) -> None:
        """The application has just started: here the fault ``boot_loop`` strikes."""
        firmware = self.firmware()
        if self.faults.take_boot("boot_loop", firmware.version if firmware else None):
            self.log("fault boot_loop")
            self.software_reset(due + BOOT_LOOP_TIME)

    def _stop_program(self) -> None:
        if self.program:
            self.program.stop()
        if self._boot_timer:
            self._boot_timer.cancel()
        self.program = None
        self.paused = False
        self._go_on = None
        self.line.silence()

    def _set_mode(self, mode: str) -> None:
        if mode != self.mode:
            self.mode = mode
            self.log(f"mode {mode}")

    def _received(self, data: bytes, baud: int, at: float) -> None:
        if self.program:
            self.program.receive(data, baud, at)

    def lines_changed(self) -> None:
        """Modem lines or parity are not what they were."""
        self.line.client_parity = parity = self.modem.parity
        lines = f"lines dtr={self.modem.bits >> 1 & 1} rts={self.modem.bits >> 2 & 1}"
        self.log(f"{lines} parity={parity}" if parity else lines)
        if self.powered:
            self.reset_pin.changed(self.modem.bits, self)

    def status(self) -> dict[str, Any]:
        firmware = self.firmware()
        return {
            "mode": self.mode,
            "version": firmware.version if firmware else None,
            "erases": self.counters.erases,
            "programs": self.counters.programs,
            "verifies": self.counters.verifies,
            "resets": self.counters.resets,
            "paused": self.paused,
            "in_reset": self.reset_pin.holding,
            "port": self.line.path or None,
            "pid": os.getpid(),
            **self.describe(),
        }
