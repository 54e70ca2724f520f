"""One node of a CAN bus as a port: what is written goes out in frames of eight bytes, what it says is a stream."""

import time
from typing import List, Optional, Protocol, Tuple

from fleetflash.agent.port import LineStep, PortError
from fleetflash.agent.protocols import can_admin
from fleetflash.agent.protocols.can_admin import Unassigned
from fleetflash.agent.protocols.port_names import can_parts

FRAME_BYTES = 8
#: A node answers a query at once; a busy bus and Katapult's task loop make it a little later, in seconds.
QUERY_SECONDS = 0.1
#: Frames that can have come in unread; a node that never falls silent must not be read for ever.
MAX_WAITING = 4096
#: More nodes than a bus can have.
MAX_NODES = 256


class Bus(Protocol):
    """A CAN interface. Every failure is a ``PortError`` that names it."""

    def send(self, can_id: int, data: bytes) -> None:
        """Queue one frame of up to eight bytes."""

    def receive(self, timeout: float) -> Optional[Tuple[int, bytes]]:
        """Return the next frame's id and data, or nothing within ``timeout`` seconds."""

    def close(self) -> None:
        """Leave the bus. Closing twice is harmless."""


class CanNode:
    """The node that ``name`` (``can0:1234567890ab``) means; implements ``port.Port``.

    Opening it gives it a node id, whichever of Klipper and Katapult runs on it.
    """

    def __init__(self, name: str, bus: Bus) -> None:
        self.name = name
        self.address = ""
        self.uuid = can_parts(name)[1]
        self._bus = bus
        self._id = can_admin.hears_on(can_admin.node_id(self.uuid))
        self._arrived = bytearray()

    def assign(self) -> List[Unassigned]:
        """Give the node its id; return all nodes of the bus that had none.

        Raises ``PortError`` when two nodes have this uuid: both would take what is meant for one.
        """
        self._bus.send(can_admin.ADMIN, can_admin.query())
        found = self._answers()
        if sum(node.uuid == self.uuid for node in found) > 1:
            raise PortError(f"{self.name}: two nodes on the bus have this uuid; unplug one of them, nothing was erased")
        for command in (can_admin.SET_KLIPPER, can_admin.SET_KATAPULT):
            message = can_admin.set_node_id(command, self.uuid, can_admin.node_id(self.uuid))
            self._bus.send(can_admin.ADMIN, message)
        return found

    def request_bootloader(self) -> None:
        """Ask a running Klipper to restart in its bootloader; it needs a new node id there."""
        self._bus.send(can_admin.ADMIN, can_admin.request_bootloader(self.uuid))

    def read(self, size: int, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while len(self._arrived) < size:
            frame = self._bus.receive(max(0.0, deadline - time.monotonic()))
            if frame is not None and frame[0] == self._id + 1:
                self._arrived += frame[1]
            elif time.monotonic() >= deadline:
                break
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        return taken

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), FRAME_BYTES):
            self._bus.send(self._id, data[start : start + FRAME_BYTES])

    def discard_input(self) -> None:
        self._arrived.clear()
        for _ in range(MAX_WAITING):
            if self._bus.receive(0.0) is None:
                return

    def set_baudrate(self, baudrate: int) -> None:
        """The rate is the interface's."""

    def set_parity(self, parity: str) -> None:
        """A bus has none."""

    def play(self, steps: List[LineStep]) -> None:
        """A bus has no modem lines."""

    def close(self) -> None:
        self._bus.close()

    def _answers(self) -> List[Unassigned]:
        found: List[Unassigned] = []
        deadline = time.monotonic() + QUERY_SECONDS
        while (left := deadline - time.monotonic()) > 0 and len(found) < MAX_NODES:
            frame = self._bus.receive(left)
            node = can_admin.parse_answer(frame[1]) if frame and frame[0] == can_admin.ADMIN_ANSWER else None
            if node is not None:
                found.append(node)
        return found
