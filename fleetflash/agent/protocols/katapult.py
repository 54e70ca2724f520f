"""The protocol of Katapult, the bootloader of Klipper's own people, on a UART or USB CDC.

Source of the facts: Katapult's ``protocol.md`` (frames, commands, responses) and, where named, its sources.

- Frame, both ways: ``01 88 | command | words | payload | crc | 99 03``. ``words`` counts the payload in units of four
  bytes; the CRC is that of Klipper's messages (CRC-16/MCRF4XX) over command to payload, and like all numbers it is
  little-endian.
- An acknowledgement (A0) begins with the command it is for; sending and reading blocks repeat the address after it.
- F1 says that a command was not well-formed and is to be sent again, F2 that it failed, F3 that the bootloader is busy.
- A block that is sent again is taken for the retransmission it is (``src/stm32/flash.c``, flash_write_block), so every
  command but *complete* can be repeated. The first block of a flash page erases the page.
- Commands are not sent ahead: the receive buffer of a UART holds 192 bytes.
- Reading checks no address (``src/flashcmd.c``, command_read_block): beyond the flash the chip faults.
"""

import struct
import time
from dataclasses import dataclass
from typing import List, Tuple

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError
from fleetflash.agent.protocols.klipper import crc16

#: What a running Klipper takes for the wish to enter its bootloader (Klipper ``docs/Bootloader_Entry.md``); the first
#: byte ends whatever message came before.
REQUEST = b"~ \x1c Request Serial Bootloader!! ~"

HEADER, TRAILER = b"\x01\x88", b"\x99\x03"
CONNECT, SEND_BLOCK, EOF, READ_BLOCK, COMPLETE, CAN_UUID = 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
ACK, NACK, FAILED, BUSY = 0xA0, 0xF1, 0xF2, 0xF3
NAMES = {
    CONNECT: "connect",
    SEND_BLOCK: "send block",
    EOF: "eof",
    READ_BLOCK: "read block",
    COMPLETE: "complete",
    CAN_UUID: "get canbus id",
}
#: What ``scripts/flashtool.py`` of Katapult takes for a block size.
BLOCK_SIZES = (64, 128, 256, 512)
MAJOR_VERSION = 1

UUID_LENGTH = 6

WORD = 4
_OVERHEAD = 8
#: More than this in answer to one command is noise.
_MAX_NOISE = 4096


@dataclass(frozen=True)
class Bootloader:
    """What *connect* answers: ``mcu`` as Klipper's ``MCU`` constant, ``application_start`` an absolute address."""

    mcu: str
    application_start: int
    block_size: int
    protocol: str
    version: str


def frame(command: int, payload: bytes = b"") -> bytes:
    """Return a frame; the payload is a multiple of four bytes."""
    body = bytes([command, len(payload) // WORD]) + payload
    return HEADER + body + struct.pack("<H", crc16(body)) + TRAILER


def split_frames(buffer: bytearray) -> List[Tuple[int, bytes]]:
    """Take all whole frames off ``buffer``: a list of (command, payload). What is not a frame is skipped."""
    frames: List[Tuple[int, bytes]] = []
    while True:
        start = buffer.find(HEADER)
        if start < 0:
            # The last byte may be the first of a header.
            del buffer[: len(buffer) - 1 if buffer[-1:] == HEADER[:1] else len(buffer)]
            return frames
        del buffer[:start]
        if len(buffer) < WORD or len(buffer) < _length(buffer):
            return frames
        candidate = bytes(buffer[: _length(buffer)])
        body, crc = candidate[2:-4], candidate[-4:-2]
        if candidate[-2:] != TRAILER or crc != struct.pack("<H", crc16(body)):
            del buffer[:1]
            continue
        del buffer[: len(candidate)]
        frames.append((body[0], body[2:]))


def _length(buffer: bytearray) -> int:
    return buffer[3] * WORD + _OVERHEAD


def parse_connect(payload: bytes, name: str) -> Bootloader:
    """Parse what follows the command in the answer to *connect*; raises ``ProtocolError`` naming the port."""
    if len(payload) < 3 * WORD:
        raise ProtocolError(f"{name}: connect: expected at least 12 bytes, got {payload.hex() or 'none'}")
    protocol, start, block_size = struct.unpack_from("<3I", payload)
    mcu, _, rest = payload[3 * WORD :].partition(b"\0")
    version = ".".join(str(protocol >> shift & 0xFF) for shift in (16, 8, 0))
    if protocol >> 16 != MAJOR_VERSION or block_size not in BLOCK_SIZES:
        raise ProtocolError(
            f"{name}: Katapult speaks protocol {version} in blocks of {block_size} bytes; expected version 1 and "
            "blocks of 64 to 512. Use the flashtool.py that belongs to it"
        )
    if not mcu or not mcu.isascii() or not mcu.decode("ascii", "replace").isprintable():
        raise ProtocolError(f"{name}: connect: {mcu!r} is no name of a microcontroller")
    software = rest.strip(b"\0").decode("ascii", "replace")
    return Bootloader(mcu.decode("ascii").lower(), start, block_size, version, software)


class Katapult:
    """A conversation with one bootloader. Methods raise ``ProtocolError`` or a subclass when the board objects."""

    #: How often a command is sent: the protocol has the sender repeat what was garbled or lost.
    TRIES = 3
    BUSY_PAUSE = 0.1
    #: An erase of the largest sector, 128 KiB, takes up to 4 s (STM32F446 data sheet, "Flash memory programming").
    WRITE_SECONDS = 5.0
    READ_SECONDS = 1.0

    def __init__(self, port: Port):
        self.port = port

    def connect(self, timeout: float = 0.5, tries: int = TRIES) -> Bootloader:
        """Return the bootloader that is there, or raise ``NoAnswerError``."""
        return parse_connect(self._command(CONNECT, b"", timeout, tries), self.port.name)

    def send_block(self, address: int, data: bytes) -> None:
        """Write one block; the first of a page erases it. Blocks of a page go in order of their addresses."""
        prefix = struct.pack("<I", address)
        self._command(SEND_BLOCK, prefix + data, self.WRITE_SECONDS, self.TRIES, prefix)

    def end_of_file(self) -> int:
        """Have what is buffered written; return the number of pages written since the bootloader started."""
        answer = self._command(EOF, b"", self.WRITE_SECONDS, self.TRIES)
        if len(answer) < WORD:
            raise ProtocolError(f"{self.port.name}: eof: the answer carries no page count")
        return int.from_bytes(answer[:WORD], "little")

    def read_block(self, address: int, size: int) -> bytes:
        """Return the block at ``address``, which must lie in the flash."""
        prefix = struct.pack("<I", address)
        answer = self._command(READ_BLOCK, prefix, self.READ_SECONDS, self.TRIES, prefix)
        if len(answer) != size:
            where = f"{self.port.name}: read block at {address:#010x}"
            raise ProtocolError(f"{where}: expected {size} bytes, got {len(answer)}")
        return answer

    def can_uuid(self) -> bytes:
        """Return the six bytes by which a CAN bus knows the node."""
        answer = self._command(CAN_UUID, b"", 1.0, self.TRIES)
        if len(answer) < UUID_LENGTH:
            raise ProtocolError(f"{self.port.name}: get canbus id: expected 6 bytes, got {answer.hex() or 'none'}")
        return answer[:UUID_LENGTH]

    def complete(self) -> None:
        """End the session; the application starts 100 ms later (``src/flashcmd.c``, complete_task)."""
        self._command(COMPLETE, b"", 1.0, 1)

    def _command(self, command: int, payload: bytes, timeout: float, tries: int, repeated: bytes = b"") -> bytes:
        """Send a command until it is acknowledged; return what follows ``repeated`` in the acknowledgement."""
        problem: ProtocolError = NoAnswerError("")
        for attempt in range(tries):
            try:
                return self._transfer(command, payload, timeout, repeated)
            except RefusedError:
                raise
            except ProtocolError as error:
                # That something answered is worth more than that the last try met silence.
                if attempt == 0 or not isinstance(error, NoAnswerError):
                    problem = error
        raise problem

    def _transfer(self, command: int, payload: bytes, timeout: float, repeated: bytes) -> bytes:
        where = f"{self.port.name}: {NAMES[command]}"
        if repeated:
            where += f" at {int.from_bytes(repeated, 'little'):#010x}"
        expected = struct.pack("<I", command) + repeated
        self.port.discard_input()
        self.port.write(frame(command, payload))
        deadline = time.monotonic() + timeout
        buffer, noise = bytearray(), b""
        while True:
            left = deadline - time.monotonic()
            piece = self.port.read(_missing(buffer), left) if left > 0 else b""
            if not piece:
                if not noise:
                    raise NoAnswerError(f"{where}: no answer within {timeout:g} s")
                raise ProtocolError(f"{where}: not a Katapult answer: {noise[:32].hex()}")
            buffer += piece
            noise += piece
            for code, answer in split_frames(buffer):
                if code == ACK and answer.startswith(expected):
                    return answer[len(expected) :]
                if code == NACK:
                    raise ProtocolError(f"{where}: the command arrived garbled")
                if code == FAILED:
                    raise RefusedError(f"{where}: the bootloader could not do it (answer f2)")
                if code == BUSY:
                    time.sleep(self.BUSY_PAUSE)
                    raise ProtocolError(f"{where}: the bootloader is busy")
                # An acknowledgement of something else is late: the one that is waited for comes after it.
            if len(noise) > _MAX_NOISE:
                raise ProtocolError(f"{where}: not a Katapult answer: {noise[:32].hex()} and more")


def _missing(buffer: bytearray) -> int:
    """Return how many bytes a whole frame lacks at least."""
    return max(1, (_length(buffer) if len(buffer) >= WORD else _OVERHEAD) - len(buffer))
