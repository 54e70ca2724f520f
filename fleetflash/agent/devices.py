"""Which serial devices a host has, and which of them a port's name can mean."""

import os
import re
from pathlib import Path
from typing import Dict, List, Tuple

from fleetflash.agent.observed import Holder, PortFacts

PATTERNS = ("ttyUSB*", "ttyACM*", "ttyAMA*", "ttyS[0-9]*", "rpmsg*")
#: The USB vendor id under which Klipper and Katapult have theirs.
OPENMOKO = "1d50"
USB_FIELDS = ("idVendor", "idProduct", "manufacturer", "product", "serial")


def list_ports(holders: Dict[str, List[Holder]], dev: Path = Path("/dev"), sys: Path = Path("/sys")) -> List[PortFacts]:
    """Return every serial device with the links that lead to it."""
    by_id = _links(dev / "serial/by-id")
    by_path = _links(dev / "serial/by-path")
    found = []
    for pattern in PATTERNS:
        for device in sorted(dev.glob(pattern)):
            usb = _usb_identity(sys / "class/tty" / device.name)
            name = str(device)
            if pattern.startswith("ttyS") and name not in by_path and name not in by_id:
                continue  # a PC's legacy ports exist whether or not anything is behind them
            found.append(
                PortFacts(
                    device=name,
                    by_id=by_id.get(name, []),
                    by_path=by_path.get(name, []),
                    usb=usb,
                    holders=holders.get(name, []),
                )
            )
    return found


def candidates(port: str, ports: List[PortFacts]) -> List[str]:
    """Return the devices that ``port`` can mean: none when it is absent, several when its name is ambiguous.

    A by-id name is made of what the USB device says of itself. Devices that say the same (CH340 has no serial number)
    fight for one link, and udev gives it to whichever came last.
    """
    device = os.path.realpath(port)
    own = next((p for p in ports if p.device == device), None)
    if own is None:
        return [device] if os.path.exists(device) else []
    if "/by-id/" in port and own.usb:
        return [p.device for p in ports if p.usb == own.usb]
    return [device]


def locate(port: str, ports: List[PortFacts], moves: bool = False, by_path: str = "") -> List[str]:
    """Return ``candidates``, and where the name is gone, the devices that a board which ``moves`` can be now.

    Such a board has another by-id name in its bootloader: Klipper's ``usb-Klipper_MCU_SERIAL-if00`` becomes
    ``usb-katapult_MCU_SERIAL-if00``. It is known by its serial number, and else by the place that it had, ``by_path``.
    """
    found = candidates(port, ports)
    if found or not moves:
        return found
    name = re.fullmatch(r".*/by-id/usb-.+_((?:[0-9a-f]{2})+)-if([0-9a-f]{2})", port, re.IGNORECASE)
    if name:
        same = [p.device for p in ports if _native(p.usb) == (name[1].lower(), name[2].lower())]
        if same:
            return same
    at_place = candidates(by_path, ports) if by_path else []
    others = {p.device for p in ports if name and _native(p.usb)[0] not in ("", name[1].lower())}
    return [device for device in at_place if device not in others]


def native_serial_number(device: str, sys: Path = Path("/sys")) -> str:
    """Return the USB serial number of a board that is on USB itself, lower case; empty for any other.

    Klipper and Katapult (vendor 1d50, OpenMoko) both give the chip's unique id as their serial number (Klipper
    ``src/generic/usb_cdc.c``). That of an adapter is not the board's.
    """
    return _native(_usb_identity(sys / "class/tty" / Path(os.path.realpath(device)).name))[0]


def native_serial_number_of(device: str, ports: List[PortFacts]) -> str:
    """``native_serial_number`` of a device that has been listed."""
    return next((_native(port.usb)[0] for port in ports if port.device == device), "")


def _native(identity: str) -> Tuple[str, str]:
    """Return serial number and interface of Klipper's and Katapult's USB identity; both empty for any other."""
    found = re.fullmatch(f"{OPENMOKO}:.*:((?:[0-9a-f]{{2}})+):([^:]*)", identity, re.IGNORECASE)
    return (found[1].lower(), found[2].lower()) if found else ("", "")


def _links(directory: Path) -> Dict[str, List[str]]:
    """Return device → links in ``directory`` that lead to it."""
    found: Dict[str, List[str]] = {}
    if directory.is_dir():
        for link in sorted(directory.iterdir()):
            found.setdefault(os.path.realpath(str(link)), []).append(str(link))
    return found


def _usb_identity(tty: Path) -> str:
    """Return what a by-id name is made of, e.g. ``1a86:7523::USB Serial::00``; empty for a port that isn't on USB."""
    try:
        device = (tty / "device").resolve(strict=True)
    except OSError:
        return ""
    interface = ""
    for directory in (device, *device.parents):
        number = directory / "bInterfaceNumber"
        if not interface and number.is_file():
            interface = number.read_text().strip()
        if (directory / "idVendor").is_file():
            fields = [_read(directory / name) for name in USB_FIELDS]
            return ":".join([*fields, interface])
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
