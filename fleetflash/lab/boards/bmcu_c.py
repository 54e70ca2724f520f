"""BMCU-C: a CH32V203 behind a CH340, in one process on one pseudo-terminal."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fleetflash.lab.boards.chip import Chip
from fleetflash.lab.boards.circuit import Counters, Program
from fleetflash.lab.boards.control import ControlServer, Reply, Request
from fleetflash.lab.boards.faults import BOOT_KINDS, Fault, Faults
from fleetflash.lab.boards.flash import CodeFlash, OptionBytes
from fleetflash.lab.boards.klipper_app import KlipperApp
from fleetflash.lab.boards.line import Line
from fleetflash.lab.boards.loop import Loop, Timer
from fleetflash.lab.boards.modem import ModemLines, ModemServer, Wiring
from fleetflash.lab.boards.wch_bootloader import WchBootloader
from fleetflash.lab.image import Firmware, read_firmware

RESET_FILTER = 0.005  # seconds: the capacitor at the reset pin swallows shorter pulses
BOOT_TIME = 0.010  # seconds from the release of reset to the first byte understood
BOOT_LOOP_TIME = 0.050


@dataclass(frozen=True)
class Settings:
    """How a board is built and plugged in; the command line in one value."""

    pty: Path
    flash: Path
    chip: Chip
    wiring: Wiring | None = None  # None: an older board, only its buttons enter the bootloader
    start_in_bootloader: bool = False
    serial_lines: Path | None = None
    control: Path | None = None
    log: Path | None = None


class BmcuC:
    """Power, reset and boot pins around the chip; what runs on it is a ``Program``.

    Modes: ``application``, ``bootloader``, ``dead`` (no image that runs), ``off`` (or held in reset).
    """

    def __init__(self, settings: Settings) -> None:
        self.loop = Loop()
        self.faults = Faults()
        self.counters = Counters()
        self._settings = settings
        self._log_file: TextIO | None = settings.log.open("a", buffering=1) if settings.log else None
        self._flash = CodeFlash(settings.flash, settings.chip.flash_size)
        self._options = OptionBytes(settings.flash.with_name(settings.flash.name + ".options"))
        self._firmware: Firmware | None = None
        self._firmware_generation = -1
        self._line = Line(self.loop, self._received)
        self._modem = ModemLines(self._lines_changed)
        self._reset_timer: Timer | None = None
        self._boot_timer: Timer | None = None
        self._powered = False
        self._in_reset = False
        self._program: Program | None = None
        self._mode = "off"
        self._paused = False
        self._go_on: Callable[[], None] | None = None
        self._pause_waiters: list[tuple[Reply, Timer]] = []
        self._servers: list[ControlServer | ModemServer] = []

    # Life of the process

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the link exists only meanwhile."""
        settings = self._settings
        if settings.pty.is_symlink():
            # Left behind by a killed board; its number may be somebody else's terminal by now.
            settings.pty.unlink()
        self._catch_signals()
        if settings.serial_lines:
            self._servers.append(ModemServer(self.loop, settings.serial_lines, self._modem))
        if settings.control:
            self._servers.append(ControlServer(self.loop, settings.control, self._control))
        self._power_on()
        self._line.publish(settings.pty)
        self.log(f"ready on {self._line.path}")
        try:
            self.loop.run()
        finally:
            self._line.withdraw(settings.pty)
            for server in self._servers:
                server.close()

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
        return self._line.send(data, baud, at)

    def software_reset(self, at: float) -> None:
        program = self._program
        done = self._line.send(b"", 115200, at)

        def reset(due: float) -> None:
            if self._program is program:
                self._start(due, bootloader=False)

        # A moment later, so that the last bytes leave before the line falls silent.
        self.loop.at(done + 1e-6, reset)

    def power_cut(self) -> None:
        self._power_off()

    def stall(self, go_on: Callable[[], None] | None) -> None:
        self._paused = True
        self._go_on = go_on
        for reply, timer in self._pause_waiters:
            timer.cancel()
            reply({"ok": True, "paused": True})
        self._pause_waiters.clear()

    # Power, reset, boot

    def _received(self, data: bytes, baud: int, at: float) -> None:
        if self._program:
            self._program.receive(data, baud, at)

    def _stop_program(self, mode: str) -> None:
        if self._program:
            self._program.stop()
        if self._boot_timer:
            self._boot_timer.cancel()
        self._program = None
        self._paused = False
        self._go_on = None
        self._line.silence()
        self._set_mode(mode)

    def _set_mode(self, mode: str) -> None:
        if mode != self._mode:
            self._mode = mode
            self.log(f"mode {mode}")

    def _power_on(self) -> None:
        self._powered = True
        wiring = self._settings.wiring
        if wiring and wiring.reset_held(self._modem.bits):
            self._in_reset = True
        else:
            self._start(time.monotonic(), bootloader=self._settings.start_in_bootloader)

    def _power_off(self) -> None:
        self._powered = False
        self._in_reset = False
        if self._reset_timer:
            self._reset_timer.cancel()
            self._reset_timer = None
        self._stop_program("off")

    def _start(self, at: float, *, bootloader: bool) -> None:
        """Leave reset: from here the chip needs ``BOOT_TIME`` until it listens."""
        self._stop_program("off")
        self._in_reset = False
        self.counters.resets += 1
        self._options.load()
        if bootloader and self.faults.take_boot("refuse_bootloader"):
            self.log("fault refuse_bootloader")
            bootloader = False
        if bootloader:
            self._set_mode("bootloader")
            self._boot_timer = self.loop.at(at + BOOT_TIME, self._run_bootloader)
        elif firmware := self._image():
            self._set_mode("application")
            self._boot_timer = self.loop.at(at + BOOT_TIME, lambda due: self._run_application(firmware, due))
        else:
            self._set_mode("dead")

    def _run_bootloader(self, _due: float) -> None:
        self._program = WchBootloader(self, self._settings.chip, self._flash, self._options)

    def _run_application(self, firmware: Firmware, due: float) -> None:
        other = self.faults.take_boot("other_version", firmware.version)
        if other:
            self.log("fault other_version")
        self._program = KlipperApp(self, firmware.renamed(f"{firmware.version}-other") if other else firmware, due)
        if self.faults.take_boot("boot_loop", firmware.version):
            self.log("fault boot_loop")
            self.software_reset(due + BOOT_LOOP_TIME)

    def _image(self) -> Firmware | None:
        """The firmware in flash, if it would run."""
        if self._firmware_generation != self._flash.generation:
            self._firmware_generation = self._flash.generation
            self._firmware = read_firmware(self._flash.read())
        return self._firmware

    # Modem lines

    def _lines_changed(self) -> None:
        self.log(f"lines dtr={self._modem.bits >> 1 & 1} rts={self._modem.bits >> 2 & 1}")
        wiring = self._settings.wiring
        if wiring is None or not self._powered:
            return
        if wiring.reset_held(self._modem.bits):
            if not self._in_reset and self._reset_timer is None:
                self._reset_timer = self.loop.at(time.monotonic() + RESET_FILTER, self._hold_in_reset)
            return
        if self._reset_timer:
            # Released: whether it was long enough is a question of time, not of which event came first.
            timer, self._reset_timer = self._reset_timer, None
            timer.cancel()
            if time.monotonic() < timer.due:
                return
            self._in_reset = True
        if self._in_reset:
            self._start(time.monotonic(), bootloader=wiring.boot_asked(self._modem.bits))

    def _hold_in_reset(self, _due: float) -> None:
        self._reset_timer = None
        if self._powered:
            self._in_reset = True
            self._stop_program("off")

    # Control socket

    def _control(self, request: Request, reply: Reply) -> None:
        operation = request.get("op")
        actions: dict[str, Callable[[Request], None]] = {
            "press": self._press,
            "power": self._power,
            "pause": self._plan_pause,
            "resume": self._resume,
            "fault": self._plan_fault,
            "clear_faults": lambda _request: self.faults.clear(),
        }
        if operation == "status":
            reply(self._status())
        elif operation == "wait_paused":
            self._wait_paused(float(request.get("timeout", 10.0)), reply)
        elif isinstance(operation, str) and operation in actions:
            actions[operation](request)
            reply({"ok": True})
        else:
            known = ", ".join(["status", "wait_paused", *actions])
            raise ValueError(f"unknown op {operation!r}; known: {known}")

    def _status(self) -> dict[str, Any]:
        firmware = self._image()
        return {
            "ok": True,
            "mode": self._mode,
            "version": firmware.version if firmware else None,
            "erases": self.counters.erases,
            "programs": self.counters.programs,
            "verifies": self.counters.verifies,
            "resets": self.counters.resets,
            "paused": self._paused,
            "in_reset": self._in_reset,
            "read_protected": self._options.read_protected,
            "uid": self._settings.chip.uid.hex(),
            "chip_id": self._settings.chip.chip_id,
            "port": self._line.path,
            "pid": os.getpid(),
        }

    def _press(self, _request: Request) -> None:
        """Hold B, tap R, release both."""
        if not self._powered:
            raise ValueError("the board is off")
        if self._in_reset:
            raise ValueError("a modem line holds the board in reset")
        self._start(time.monotonic(), bootloader=True)

    def _power(self, request: Request) -> None:
        wanted = request["on"]
        if not isinstance(wanted, bool):
            raise ValueError("power needs on: true or false")
        if wanted and not self._powered:
            self._power_on()
        elif not wanted and self._powered:
            self._power_off()

    def _plan_pause(self, request: Request) -> None:
        self.faults.add(Fault("pause", command=request["command"], byte=request.get("byte")))

    def _plan_fault(self, request: Request) -> None:
        fields = {key: request[key] for key in ("command", "byte", "count", "status", "version") if key in request}
        kind = request["kind"]
        if kind not in BOOT_KINDS and not fields.get("command"):
            raise ValueError(f"fault {kind} needs a command")
        self.faults.add(Fault(kind, **fields))

    def _resume(self, _request: Request) -> None:
        if not self._paused:
            raise ValueError("the board is not paused")
        if self._go_on is None:
            raise ValueError("the board hangs; reset it or cycle its power")
        go_on, self._go_on, self._paused = self._go_on, None, False
        go_on()

    def _wait_paused(self, timeout: float, reply: Reply) -> None:
        if self._paused:
            reply({"ok": True, "paused": True})
            return

        def give_up(_due: float) -> None:
            self._pause_waiters.remove(waiter)
            reply({"ok": True, "paused": False})

        waiter = (reply, self.loop.at(time.monotonic() + timeout, give_up))
        self._pause_waiters.append(waiter)
