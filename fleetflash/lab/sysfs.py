"""The part of /sys from which programs learn which USB device is behind a tty.

A host's real /sys is the machine's and knows nothing of simulated boards. Two small trees in the lab's directory
are mounted read-only over the host's ``/sys/class/tty`` and ``/sys/devices/platform``; a board is an entry in both,
laid out as Linux lays out a CH340, or a chip's own CDC-ACM port, at a Raspberry Pi 4's USB hub. Adding and removing
entries needs nothing inside the host.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab.usb import CH340, UsbDevice

MOUNTS = {"tty": "/sys/class/tty", "platform": "/sys/devices/platform"}
_HUB = "scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1"


@dataclass(frozen=True)
class Driver:
    """How Linux names and places the ports of a kind of device."""

    prefix: str  # of the tty's name
    name: str
    major: int
    interface_class: str
    is_usb_serial: bool  # its ports are devices between the interface and the tty


BRIDGE = Driver("ttyUSB", "ch341", 188, "ff", True)
CDC_ACM = Driver("ttyACM", "cdc_acm", 166, "02", False)


@dataclass(frozen=True)
class UsbSerial:
    """A serial port at a socket of the hub, known to the host as ``tty``."""

    tty: str
    socket: int
    device: UsbDevice = CH340
    driver: Driver = BRIDGE

    @property
    def by_id(self) -> str:
        """udev's name; a device without a serial number shares it with all of its kind."""
        return f"{self.device.by_id}-if00" + self._suffix

    @property
    def by_path(self) -> str:
        """udev's name for the socket, whatever is plugged in there."""
        return by_path(self.socket, self.driver)

    @property
    def _suffix(self) -> str:
        return "-port0" if self.driver.is_usb_serial else ""

    def add_to(self, sysfs: Path) -> None:
        """Write the entries below ``sysfs``, which holds ``tty`` and ``platform``."""
        name = f"1-1.{self.socket}"
        device = sysfs / "platform" / _HUB / name
        interface = device / f"{name}:1.0"
        parent = interface / self.tty if self.driver.is_usb_serial else interface
        node = parent / "tty" / self.tty
        node.mkdir(parents=True, exist_ok=True)
        usb, driver = self.device, self.driver
        ids = f"{usb.vendor}/{usb.product}"
        strings = {"manufacturer": usb.manufacturer, "product": usb.name, "serial": usb.serial}
        _write(
            device,
            idVendor=usb.vendor,
            idProduct=usb.product,
            bcdDevice="0264",
            bDeviceClass=driver.interface_class,
            bNumConfigurations="1",
            bNumInterfaces=" 1" if driver.is_usb_serial else " 2",
            busnum="1",
            devnum=str(2 + self.socket),
            devpath=f"1.{self.socket}",
            speed="12",
            version=" 1.10",
            uevent=f"DEVTYPE=usb_device\nDRIVER=usb\nPRODUCT={ids}/264\nTYPE=255/0/0",
            **{key: text for key, text in strings.items() if text},
        )
        _write(
            interface,
            bInterfaceNumber="00",
            bInterfaceClass=driver.interface_class,
            bNumEndpoints="03" if driver.is_usb_serial else "01",
            uevent=f"DEVTYPE=usb_interface\nDRIVER={driver.name}\nPRODUCT={ids}/264",
        )
        _write(node, dev=f"{driver.major}:{self.tty.removeprefix(driver.prefix)}", uevent=f"DEVNAME={self.tty}")
        _link(device / "subsystem", "/sys/bus/usb")
        _link(interface / "subsystem", "/sys/bus/usb")
        _link(interface / "driver", f"/sys/bus/usb/drivers/{driver.name}")
        _link(node / "subsystem", "/sys/class/tty")
        _link(node / "device", f"../../../{parent.name}")
        if driver.is_usb_serial:
            _write(parent, port_number="0", uevent=f"DRIVER={driver.name}-uart")
            _link(parent / "subsystem", "/sys/bus/usb-serial")
            _link(parent / "driver", f"/sys/bus/usb-serial/drivers/{driver.name}-uart")
        relative = node.relative_to(sysfs / "platform")
        _link(sysfs / "tty" / self.tty, f"../../devices/platform/{relative}")

    def remove_from(self, sysfs: Path) -> None:
        (sysfs / "tty" / self.tty).unlink(missing_ok=True)
        shutil.rmtree(sysfs / "platform" / _HUB / f"1-1.{self.socket}", ignore_errors=True)


def by_path(socket: int, driver: Driver = BRIDGE) -> str:
    """udev's name for the board at this socket, whichever tty it became."""
    path = f"platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{socket}:1.0"
    return f"{path}-port0" if driver.is_usb_serial else path


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
