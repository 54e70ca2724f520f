"""The part of /sys from which programs learn which USB device is behind a tty.

A host's real /sys is the machine's and knows nothing of simulated boards. Two small trees in the lab's directory
are mounted read-only over the host's ``/sys/class/tty`` and ``/sys/devices/platform``; a board is an entry in both,
laid out as Linux lays out a CH340 at a Raspberry Pi 4's USB hub. Adding and removing entries needs nothing
inside the host.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

VENDOR, PRODUCT, PRODUCT_NAME = "1a86", "7523", "USB Serial"
MOUNTS = {"tty": "/sys/class/tty", "platform": "/sys/devices/platform"}
_HUB = "scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1"


@dataclass(frozen=True)
class UsbSerial:
    """A CH340 at a socket of the hub, known to the host as ``tty``."""

    tty: str
    socket: int

    @property
    def by_id(self) -> str:
        """udev's name; this chip has no serial number, so all boards share it."""
        return f"usb-{VENDOR}_{PRODUCT_NAME.replace(' ', '_')}-if00-port0"

    @property
    def by_path(self) -> str:
        return by_path(self.socket)

    def add_to(self, sysfs: Path) -> None:
        """Write the entries below ``sysfs``, which holds ``tty`` and ``platform``."""
        name = f"1-1.{self.socket}"
        device = sysfs / "platform" / _HUB / name
        interface = device / f"{name}:1.0"
        port = interface / self.tty
        node = port / "tty" / self.tty
        node.mkdir(parents=True, exist_ok=True)
        _write(
            device,
            idVendor=VENDOR,
            idProduct=PRODUCT,
            product=PRODUCT_NAME,
            bcdDevice="0264",
            bDeviceClass="ff",
            bNumConfigurations="1",
            bNumInterfaces=" 1",
            busnum="1",
            devnum=str(2 + self.socket),
            devpath=f"1.{self.socket}",
            speed="12",
            version=" 1.10",
            uevent=f"DEVTYPE=usb_device\nDRIVER=usb\nPRODUCT={VENDOR}/{PRODUCT}/264\nTYPE=255/0/0",
        )
        _write(
            interface,
            bInterfaceNumber="00",
            bInterfaceClass="ff",
            bNumEndpoints="03",
            uevent=f"DEVTYPE=usb_interface\nDRIVER=ch341\nPRODUCT={VENDOR}/{PRODUCT}/264",
        )
        _write(port, port_number="0", uevent="DRIVER=ch341-uart")
        _write(node, dev=f"188:{self.tty.removeprefix('ttyUSB')}", uevent=f"DEVNAME={self.tty}")
        _link(device / "subsystem", "/sys/bus/usb")
        _link(interface / "subsystem", "/sys/bus/usb")
        _link(interface / "driver", "/sys/bus/usb/drivers/ch341")
        _link(port / "subsystem", "/sys/bus/usb-serial")
        _link(port / "driver", "/sys/bus/usb-serial/drivers/ch341-uart")
        _link(node / "subsystem", "/sys/class/tty")
        _link(node / "device", f"../../../{self.tty}")
        relative = node.relative_to(sysfs / "platform")
        _link(sysfs / "tty" / self.tty, f"../../devices/platform/{relative}")

    def remove_from(self, sysfs: Path) -> None:
        (sysfs / "tty" / self.tty).unlink(missing_ok=True)
        shutil.rmtree(sysfs / "platform" / _HUB / f"1-1.{self.socket}", ignore_errors=True)


def by_path(socket: int) -> str:
    """udev's name for the board at this socket, whichever tty it became."""
    return f"platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{socket}:1.0-port0"


def clear(sysfs: Path) -> None:
    """An empty tree: a host with nothing plugged in. The two directories themselves stay, they may be mounted."""
    for part in MOUNTS:
        directory = sysfs / part
        directory.mkdir(parents=True, exist_ok=True)
        for entry in directory.iterdir():
            if entry.is_symlink():
                entry.unlink()
            else:
                shutil.rmtree(entry)


def _write(directory: Path, **attributes: str) -> None:
    for name, value in attributes.items():
        (directory / name).write_text(f"{value}\n")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
