"""A USB socket of this machine and what is plugged into it, whether or not it has a serial port now.

Source of the facts: Linux ``Documentation/ABI/stable/sysfs-bus-usb`` (names, idVendor, serial, busnum, devnum); Klipper
``docs/Bootloader_Entry.md`` (1200 bit/s while DTR is pulsed).
"""

import time
from pathlib import Path
from typing import List

from fleetflash.agent.port import PortAbsentError, PortError
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.process_port import NoPort
from fleetflash.agent.protocols.port_names import usb_socket

TOUCH_BAUDRATE = 1200
_PAUSE = 0.1


class UsbSocket(NoPort):
    """The socket that ``name`` (``usb:1-1.2``) means; implements ``protocols.usb_tool.Socket``."""

    def __init__(self, name: str, sys: Path = Path("/sys")) -> None:
        super().__init__(name)
        self._sys = sys
        self.path = usb_socket(name)
        self._device = sys / "bus/usb/devices" / self.path

    def ids(self) -> str:
        """Return vendor and product such as ``0483:df11``; empty when nothing is plugged in."""
        vendor, product = self._read("idVendor"), self._read("idProduct")
        return f"{vendor}:{product}" if vendor and product else ""

    def serial(self) -> str:
        return self._read("serial")

    def bus(self) -> str:
        return self._read("busnum")

    def number(self) -> str:
        return self._read("devnum")

    def tty(self) -> str:
        """Return the serial device in this socket; empty when there is none, or it is still being made."""
        found = self._ttys()
        return f"/dev/{found[0]}" if found else ""

    def like(self, ids: List[str]) -> int:
        """Return how many devices of the machine have one of these ids."""
        sockets = [UsbSocket(f"usb:{path.name}", self._sys) for path in (self._sys / "bus/usb/devices").glob("*-*")]
        return sum(socket.ids() in ids for socket in sockets)

    def touch(self) -> None:
        """Ask the firmware for its bootloader; nothing where there is no serial device."""
        device = self.tty()
        if not device:
            return
        try:
            port = SerialPort.open(device, TOUCH_BAUDRATE)
            try:
                port.play([(False, None, 0.1), (True, None, 0.0)])
            finally:
                port.close()
        except PortError:
            if self.tty() == device and Path(device).exists():
                raise  # it has not gone, so it did not obey

    def open(self) -> SerialPort:
        """Open its serial device; raises ``PortError``."""
        return SerialPort.open(self.tty() or self.name)

    def _ttys(self) -> List[str]:
        # An interface of the device (1-1.2:1.0), not of one behind it (1-1.2.1).
        return sorted(path.name for path in self._device.glob(f"{self.path}:*/tty/*"))

    def _read(self, attribute: str) -> str:
        try:
            return (self._device / attribute).read_text().strip()
        except OSError:
            return ""


def wait_for_tty(socket: UsbSocket, seconds: float) -> str:
    """Return the serial device that comes up in a socket; raises ``PortAbsentError``."""
    deadline = time.monotonic() + seconds
    while not socket.tty():
        if time.monotonic() >= deadline:
            what = socket.ids() or "nothing"
            raise PortAbsentError(f"{socket.name}: no serial device is there, but {what}; the firmware does not run")
        time.sleep(_PAUSE)
    return socket.tty()
