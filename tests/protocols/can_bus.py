"""A simulated CAN bus: what is sent to the kernel's socket reaches nodes that run Klipper or Katapult.

Written from Klipper's ``docs/CANBUS_protocol.md``, ``docs/Protocol.md`` and Katapult's ``protocol.md``; shares no code
with the programmer. A node's flash is written and read; erasing and timing are the business of other simulated boards.
"""

import errno
import socket
import struct
from dataclasses import dataclass, field

from fleetflash.lab.boards.katapult_frames import (
    COMPLETE,
    CONNECT,
    EOF,
    ERROR,
    READ,
    WRITE,
    FrameReader,
    acknowledge,
    frame,
)
from fleetflash.lab.boards.klipper_wire import BlockReader, block, decode_integer, encode_integer
from fleetflash.lab.image import read_firmware

FRAME = struct.Struct("=IB3x8s")
BASE, OFFSET, SIZE, BLOCK = 0x0800_0000, 0x2000, 0x2_0000, 64
CAN_ID = 0x16


@dataclass
class Node:
    """``runs``: ``klipper``, ``katapult`` or ``nothing``. ``deaf``: Klipper was built without Katapult in front."""

    uuid: bytes
    flash: bytearray
    runs: str = "klipper"
    deaf: bool = False
    mcu: bytes = b"stm32f103xe"
    claims: bytes = b""
    assigned: int = 0
    shut_down: bool = False
    resets: int = 0

    def __post_init__(self) -> None:
        self.reset(self.runs)

    def reset(self, into: str) -> None:
        self.runs, self.assigned, self.resets = into, 0, self.resets + 1
        self.frames, self.blocks, self.sequence = FrameReader(), BlockReader(), 0

    @property
    def version(self) -> str:
        firmware = read_firmware(bytes(self.flash[OFFSET:]), BASE + OFFSET)
        return firmware.version if firmware else ""

    def hear(self, can_id: int, data: bytes) -> list[tuple[int, bytes]]:
        """Return the frames that the node sends in answer."""
        if can_id == 0x3F0:
            return self._admin(data)
        if not self.assigned or can_id != 0x100 + 2 * self.assigned:
            return []
        said = self._katapult(data) if self.runs == "katapult" else self._klipper(data)
        # An identifier that was given up meanwhile is not spoken on.
        return [(can_id + 1, said[at : at + 8]) for at in range(0, len(said), 8)]

    def _admin(self, data: bytes) -> list[tuple[int, bytes]]:
        own = {"klipper": 0x01, "katapult": 0x11}.get(self.runs)
        if data[:1] == b"\x00" and own is not None and not self.assigned:
            return [(0x3F1, b"\x20" + self.uuid + bytes([own]))]
        if own is not None and data[:1] == bytes([own]) and len(data) == 8:
            if data[1:7] == self.uuid:
                self.assigned = data[7]
            elif data[7] == self.assigned:
                self.assigned, self.shut_down = 0, True
        if data[:7] == b"\x02" + self.uuid and self.runs == "klipper" and not self.deaf:
            self.reset("katapult")
        return []

    def _klipper(self, data: bytes) -> bytes:
        self.blocks.feed(data)
        said = b""
        while (found := self.blocks.next()) is not None:
            if isinstance(found, bool) or found[0] != self.sequence:
                said += block(self.sequence, b"")
                continue
            self.sequence = (self.sequence + 1) & 0x0F
            number, at = decode_integer(found[1], 0) if found[1] else (-1, 0)
            firmware = read_firmware(bytes(self.flash[OFFSET:]), BASE + OFFSET)
            if number == 1 and firmware:
                offset, at = decode_integer(found[1], at)
                piece = firmware.identify_data[offset : offset + 40]
                said += block(self.sequence, b"\0" + encode_integer(offset) + bytes([len(piece)]) + piece)
            said += block(self.sequence, b"")
        return said

    def _katapult(self, data: bytes) -> bytes:
        self.frames.feed(data)
        said = b""
        while (found := self.frames.next()) is not None:
            assert not isinstance(found, bool), "a garbled frame"
            said += self._command(*found)
        return said

    def _command(self, code: int, payload: bytes) -> bytes:
        address = struct.unpack_from("<I", payload)[0] if payload else 0
        at = address - BASE
        if code == CONNECT:
            text = self.mcu + bytes(-len(self.mcu) % 4) + bytes(4) + b"v0.0.1\0\0"
            return acknowledge(CONNECT, struct.pack("<3I", 0x0001_0100, BASE + OFFSET, BLOCK) + text)
        if code == CAN_ID:
            return acknowledge(CAN_ID, (self.claims or self.uuid) + b"\0\0")
        if code == READ:
            if address == 0x1FFF_F7E4 - BLOCK:
                return acknowledge(READ, payload[:4] + bytes(BLOCK - 4) + struct.pack("<HH", SIZE // 1024, 0))
            return acknowledge(READ, payload[:4] + bytes(self.flash[at : at + BLOCK]))
        if code == WRITE and at >= OFFSET:
            self.flash[at : at + BLOCK] = payload[4:]
            return acknowledge(WRITE, payload[:4])
        if code == EOF:
            return acknowledge(EOF, struct.pack("<I", 1))
        if code == COMPLETE:
            answer = acknowledge(COMPLETE)
            self.reset("klipper" if self.version else "katapult")
            return answer
        return frame(ERROR)


@dataclass
class SimulatedBus:
    """``interfaces``: name → whether it is up. ``full``: how many sends find the queue full."""

    nodes: list[Node] = field(default_factory=list)
    interfaces: dict[str, bool] = field(default_factory=lambda: {"can0": True})
    full: int = 0
    sent: list[tuple[int, bytes]] = field(default_factory=list)

    def socket(self, family: int, kind: int, protocol: int) -> "CanSocketDouble":
        assert (family, kind, protocol) == (socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        return CanSocketDouble(self)


class CanSocketDouble:
    """What the kernel gives for ``AF_CAN``, as far as ``Documentation/networking/can.rst`` says it."""

    def __init__(self, bus: SimulatedBus) -> None:
        self._bus = bus
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._filters: list[tuple[int, int]] = []
        self._interface = ""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER)
        self._filters = [struct.unpack_from("=II", value, at) for at in range(0, len(value), 8)]

    def bind(self, address: tuple[str]) -> None:
        if address[0] not in self._bus.interfaces:
            raise OSError(errno.ENODEV, "No such device")
        (self._interface,) = address

    def setblocking(self, flag: bool) -> None:
        self._near.setblocking(flag)

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, raw: bytes) -> int:
        if not self._bus.interfaces[self._interface]:
            raise OSError(errno.ENETDOWN, "Network is down")
        if self._bus.full:
            self._bus.full -= 1
            raise OSError(errno.ENOBUFS, "No buffer space available")
        can_id, length, data = FRAME.unpack(raw)
        self._bus.sent.append((can_id, data[:length]))
        for node in self._bus.nodes:
            for answer_id, answer in node.hear(can_id, data[:length]):
                if any((answer_id ^ wanted) & mask == 0 for wanted, mask in self._filters):
                    self._far.send(FRAME.pack(answer_id, len(answer), answer.ljust(8, b"\0")))
        return len(raw)

    def recv(self, size: int) -> bytes:
        return self._near.recv(size)

    def close(self) -> None:
        self._near.close()
        self._far.close()
