"""What a board's ``port`` looks like, by the way in which its programmer reaches the board.

- ``serial``: a device such as ``/dev/serial/by-path/…``;
- ``can``: interface and canbus_uuid, ``can0:1234567890ab``, as Klipper's ``canbus_interface`` and ``canbus_uuid``;
- ``usb``: a USB socket by the name that sysfs has for it, ``usb:1-1.2`` (Linux
  ``Documentation/ABI/stable/sysfs-bus-usb``);
- ``process``: the path at which a process on the host offers its pseudo-terminal, ``/tmp/klipper_host_mcu``.
"""

import re
from dataclasses import dataclass
from typing import Dict, Tuple


@dataclass(frozen=True)
class PortForm:
    """``pattern`` of the whole name, and what a message calls it."""

    pattern: str
    called: str


FORMS: Dict[str, PortForm] = {
    "serial": PortForm(r"/dev/[!-~]+", "a device such as /dev/serial/by-path/…"),
    "can": PortForm(
        r"[A-Za-z][A-Za-z0-9._-]{0,14}:[0-9a-f]{12}", "interface and canbus_uuid such as can0:1234567890ab"
    ),
    "usb": PortForm(r"usb:[0-9]+-[0-9]+(\.[0-9]+)*", "a USB socket such as usb:1-1.2 (a name in /sys/bus/usb/devices)"),
    "process": PortForm(r"/[!-~]+", "the path of its pseudo-terminal such as /tmp/klipper_host_mcu"),
}


def normalised(connection: str, port: str) -> str:
    """Return ``port`` as it is compared; raises ``ValueError`` naming the form that the connection needs."""
    if connection == "can":
        port = port.lower() if ":" not in port else f"{port.partition(':')[0]}:{port.partition(':')[2].lower()}"
    if not re.fullmatch(FORMS[connection].pattern, port):
        raise ValueError(f"expected {FORMS[connection].called}")
    return port


def can_parts(port: str) -> Tuple[str, bytes]:
    """Return interface and uuid of a CAN board's port."""
    interface, _, uuid = port.partition(":")
    return interface, bytes.fromhex(uuid)


def usb_socket(port: str) -> str:
    """Return the name in ``/sys/bus/usb/devices`` of a USB board's port."""
    return port.partition(":")[2]
