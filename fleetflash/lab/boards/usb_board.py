"""A board whose chip is a USB device itself: with every reset it goes, and comes back as what then runs on it.

It says so in the file beside its link (``fleetflash.lab.usb``), and to the host that it is plugged into.
"""

import json
import socket
import time

from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.boot import Boot
from fleetflash.lab.boards.loop import Timer
from fleetflash.lab.boards.modem import ALL_LINES, LINES, TIOCMBIC, TIOCMBIS
from fleetflash.lab.boards.reset_pin import NoReset
from fleetflash.lab.usb import Enumerated, UsbDevice, announce, announcement

ENUMERATION_SECONDS = 0.25  # from the program's start until the host has a port for it


class UsbBoard(Board):
    """Opening the port asserts both lines and its last close drops them, as the cdc-acm driver does."""

    first_lines = 0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, usb=True, reset=NoReset())
        self._attach_timer: Timer | None = None
        self.line.opened = lambda: self._drive(TIOCMBIS)
        self.line.closed = lambda: self._drive(TIOCMBIC) if self.line.hangs_up() else None

    def plug_in(self) -> None:
        self._tell(None)
        self.power_on()
        self.log("ready")

    def pull_out(self) -> None:
        self._detach()

    def become(self, boot: Boot, at: float) -> None:
        self._detach()
        super().become(boot, at)
        if boot.usb:
            device = boot.usb
            self._attach_timer = self.loop.at(at + boot.after + ENUMERATION_SECONDS, lambda _due: self._attach(device))

    def power_off(self) -> None:
        super().power_off()
        self._detach()

    def dtr(self) -> bool:
        return bool(self.modem.bits & LINES["dtr"])

    def _drive(self, request: int) -> None:
        self.modem.request(request, ALL_LINES)

    def _attach(self, device: UsbDevice) -> None:
        self.line.attach()
        self.line.publish(self.settings.pty)
        self.log(f"usb {device.vendor}:{device.product} on {self.line.path}")
        self._tell(Enumerated(device, self.line.path, time.monotonic_ns()))

    def _detach(self) -> None:
        if self._attach_timer:
            self._attach_timer.cancel()
        if not self.line.attached:
            return
        self.line.withdraw(self.settings.pty)
        self.line.detach()
        self.modem.bits = 0
        self.log("usb gone")
        self._tell(None)

    def _tell(self, enumerated: Enumerated | None) -> None:
        announce(announcement(self.settings.pty), enumerated)
        if self.settings.host is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
            host.setblocking(False)
            try:
                host.sendto(json.dumps({"port": str(self.settings.pty)}).encode(), str(self.settings.host))
            except OSError:
                # The host is off; it looks for itself when it starts.
                pass
