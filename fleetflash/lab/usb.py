"""USB devices as a host sees them: ids and strings, and the names that udev makes of them."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

# What udev keeps of a string in a name (systemd, udev_replace_chars); the rest becomes "_".
_ODD = re.compile(r"[^A-Za-z0-9#+\-.:=@_]")


@dataclass(frozen=True)
class UsbDevice:
    """``vendor`` and ``product`` are four hexadecimal digits each; strings that the device lacks are empty."""

    vendor: str
    product: str
    manufacturer: str
    name: str
    serial: str

    @property
    def by_id(self) -> str:
        """How its name below /dev/serial/by-id begins (systemd, 60-serial.rules): vendor, model, serial number."""
        parts = (self.manufacturer or self.vendor, self.name or self.product, self.serial)
        return "usb-" + "_".join(_ODD.sub("_", part) for part in parts if part)


# The bridge of most boards; it has no serial number, so all of them share one name.
CH340 = UsbDevice("1a86", "7523", "", "USB Serial", "")


def klipper_device(mcu: str, serial: str) -> UsbDevice:
    """A chip on which Klipper has a USB serial port (Klipper, src/Kconfig: USB ids)."""
    return UsbDevice("1d50", "614e", "Klipper", mcu, serial)


def katapult_device(mcu: str, serial: str) -> UsbDevice:
    """The same chip in Katapult (Katapult, src/Kconfig: USB ids)."""
    return UsbDevice("1d50", "6177", "katapult", mcu, serial)


@dataclass(frozen=True)
class Enumerated:
    """A device that a host sees just now, and the terminal that stands for its port.

    ``life`` tells it from the same device before its last reset, since terminals are used again.
    """

    device: UsbDevice
    terminal: str
    life: int = 0


def announce(place: Path, enumerated: Enumerated | None) -> None:
    """Write down beside a board's link what it is just now; nothing when it is no USB device at all."""
    if enumerated is None:
        place.unlink(missing_ok=True)
        return
    temporary = place.with_name(f".{place.name}.new")
    temporary.write_text(json.dumps(asdict(enumerated)) + "\n")
    temporary.replace(place)


def announced(place: Path) -> Enumerated | None:
    """What ``announce`` wrote last."""
    try:
        found = json.loads(place.read_text())
    except FileNotFoundError:
        return None
    return Enumerated(UsbDevice(**found["device"]), found["terminal"], found["life"])


def announcement(link: Path) -> Path:
    """Where the board whose port has this symbolic link says what it is."""
    return link.with_name(f"{link.name}.usb")
