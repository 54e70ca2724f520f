"""A CAN interface of this machine through the kernel's raw sockets.

Source of the facts: Linux ``Documentation/networking/can.rst`` (struct can_frame, filters, ENOBUFS of a full queue) and
``include/uapi/linux/if_arp.h`` (a CAN interface has the type 280).
"""

import errno
import select
import socket
import struct
import time
from pathlib import Path
from typing import Optional, Tuple

from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.can_admin import ADMIN_ANSWER, hears_on, node_id
from fleetflash.agent.protocols.can_node import CanNode
from fleetflash.agent.protocols.port_names import can_parts

#: Replaced in tests.
raw_socket = socket.socket

_FRAME = struct.Struct("=IB3x8s")
_FILTER = struct.Struct("=II")
_STANDARD_ID = 0x7FF
#: Neither extended ids (EFF) nor remote requests (RTR).
_STANDARD_MASK = _STANDARD_ID | 0x8000_0000 | 0x4000_0000
INTERFACE_TYPE = "280"
#: How long a full queue may take no frame, in seconds: nobody on the bus acknowledges.
SEND_SECONDS = 2.0
_PAUSE = 0.002


class CanSocket:
    """An open interface that hears only the ids of one node; implements ``can_node.Bus``."""

    def __init__(self, interface: str, *hears: int) -> None:
        self.interface = interface
        try:
            self._socket = raw_socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        except (OSError, AttributeError) as error:
            raise PortError(f"{interface}: this host's kernel has no CAN ({error})") from None
        try:
            filters = b"".join(_FILTER.pack(can_id, _STANDARD_MASK) for can_id in hears)
            self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, filters)
            self._socket.bind((interface,))
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise self._failure(error) from None

    def send(self, can_id: int, data: bytes) -> None:
        frame = _FRAME.pack(can_id, len(data), data.ljust(8, b"\0"))
        deadline = time.monotonic() + SEND_SECONDS
        while True:
            try:
                self._socket.send(frame)
                return
            except OSError as error:
                if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                    raise self._failure(error) from None
                if time.monotonic() > deadline:
                    raise PortError(
                        f"{self.interface}: takes no frame since {SEND_SECONDS:g} s: nobody on the bus acknowledges; "
                        "check wiring, termination, power and the bit rate of all nodes"
                    ) from None
            # A socket says that it is writable although the interface's queue is full.
            time.sleep(_PAUSE)

    def receive(self, timeout: float) -> Optional[Tuple[int, bytes]]:
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        if not poll.poll(max(0.0, timeout) * 1000):
            return None
        try:
            can_id, length, data = _FRAME.unpack(self._socket.recv(_FRAME.size))
        except BlockingIOError:
            return None
        except (OSError, struct.error) as error:
            raise self._failure(error) from None
        return can_id & _STANDARD_ID, data[:length]

    def close(self) -> None:
        self._socket.close()

    def _failure(self, error: Exception) -> PortError:
        number = error.errno if isinstance(error, OSError) else 0
        if number == errno.ENODEV:
            return PortError(f"{self.interface}: no such CAN interface; `ip link` shows what is there")
        if number == errno.ENETDOWN:
            return PortError(f"{self.interface}: the interface is down; `ip link set {self.interface} up`")
        return PortError(f"{self.interface}: {error}")


def open_node(port: str, baud: int) -> CanNode:
    """Open the node that ``port`` means and give it a node id; the bus has a rate of its own. Raises ``PortError``."""
    interface, uuid = can_parts(port)
    node = CanNode(port, CanSocket(interface, ADMIN_ANSWER, hears_on(node_id(uuid)) + 1))
    try:
        node.assign()
    except PortError:
        node.close()
        raise
    return node


def interface_problem(interface: str, sys: Path = Path("/sys")) -> str:
    """Say why an interface can't be used; nothing when it is there and up."""
    directory = sys / "class/net" / interface
    try:
        kind, flags = (directory / "type").read_text().strip(), int((directory / "flags").read_text(), 16)
    except (OSError, ValueError):
        present = ", ".join(sorted(path.parent.name for path in sys.glob("class/net/*/type") if _is_can(path)))
        return f"the host has no CAN interface {interface}; it has {present or 'none'}"
    if kind != INTERFACE_TYPE:
        return f"{interface} is no CAN interface"
    if not flags & 1:
        return f"CAN interface {interface} is down; `ip link set {interface} up`"
    return ""


def _is_can(path: Path) -> bool:
    try:
        return path.read_text().strip() == INTERFACE_TYPE
    except OSError:
        return False
