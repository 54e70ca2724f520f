"""As much of the Klipper MCU protocol as it takes to ask a board what it runs.

Source of the facts: Klipper's ``docs/Protocol.md``. A block is ``length | 0x10 + sequence | payload | crc | 0x7E``; the
CRC is CRC-16/MCRF4XX over length, sequence and payload, high byte first. Integers are groups of seven bits, most
significant first, the top bit set on all but the last; a first group of ``11xxxxx`` is a negative number.
"""

import json
import time
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError

SYNC = 0x7E
MIN_BLOCK, MAX_BLOCK = 5, 64
IDENTIFY_RESPONSE, IDENTIFY = 0, 1
CHUNK = 40
#: A dictionary larger than this is not one (real ones have 3 to 20 KiB, compressed).
MAX_DICTIONARY = 256 * 1024
#: And its text, inflated, in bytes (real ones have 10 to 100 KiB).
MAX_TEXT = 2 * 1024 * 1024


@dataclass(frozen=True)
class Dictionary:
    """A board's own account of its firmware. ``raw`` is the zlib stream as the board sent it."""

    version: str
    build_versions: str
    constants: Dict[str, Any]
    raw: bytes


def crc16(data: bytes) -> int:
    """CRC-16/MCRF4XX."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
    return crc


def encode_int(value: int) -> bytes:
    groups = [value & 0x7F]
    rest = value
    while not -32 <= rest < 96:
        rest >>= 7
        groups.append((rest & 0x7F) | 0x80)
    return bytes(reversed(groups))


def decode_int(data: bytes, position: int) -> Tuple[int, int]:
    """Return the integer at ``position`` and the position after it."""
    try:
        byte = data[position]
        value = byte & 0x7F
        if byte & 0x60 == 0x60:
            value -= 0x80
        while byte & 0x80:
            position += 1
            byte = data[position]
            value = (value << 7) | (byte & 0x7F)
    except IndexError as error:
        raise ProtocolError(f"a Klipper message ends inside a number: {data.hex()}") from error
    return value, position + 1


def block(sequence: int, payload: bytes) -> bytes:
    head = bytes([MIN_BLOCK + len(payload), 0x10 | (sequence & 0x0F)]) + payload
    return head + crc16(head).to_bytes(2, "big") + bytes([SYNC])


def split_blocks(buffer: bytearray) -> List[Tuple[int, bytes]]:
    """Take all whole blocks off ``buffer``: a list of (sequence, payload). What is not a block is skipped."""
    blocks = []
    while len(buffer) >= MIN_BLOCK:
        length = buffer[0]
        if not MIN_BLOCK <= length <= MAX_BLOCK or buffer[1] & 0xF0 != 0x10:
            del buffer[0]
            continue
        if len(buffer) < length:
            break
        candidate = bytes(buffer[:length])
        if candidate[-1] != SYNC or crc16(candidate[:-3]) != int.from_bytes(candidate[-3:-1], "big"):
            del buffer[0]
            continue
        del buffer[:length]
        blocks.append((candidate[1] & 0x0F, candidate[2:-3]))
    return blocks


class _Conversation:
    """The sequence number belongs to the board and outlives a port's opening, so it is taken from its answers."""

    def __init__(self, port: Port):
        self.port = port
        self.sequence = 0
        self.buffer = bytearray()

    def identify(self, offset: int, timeout: float, tries: int) -> bytes:
        """Return the dictionary's bytes from ``offset`` on; empty at its end."""
        request = bytes([IDENTIFY]) + encode_int(offset) + encode_int(CHUNK)
        for _ in range(tries):
            self.port.write(block(self.sequence, request))
            answer = self._wait(offset, timeout)
            if answer is not None:
                return answer
            # What a garbled byte made look like the beginning of a long block would swallow the next answers.
            self.buffer.clear()
        raise NoAnswerError(f"{self.port.name}: no Klipper firmware answers identify")

    def _wait(self, offset: int, timeout: float) -> Optional[bytes]:
        deadline = time.monotonic() + timeout
        while True:
            for sequence, payload in split_blocks(self.buffer):
                expected_next = (self.sequence + 1) & 0x0F
                self.sequence = sequence
                if not payload:
                    if sequence not in (expected_next, (expected_next - 1) & 0x0F):
                        return None  # the board counts from elsewhere: ask again with its number
                    continue
                answer = _parse_identify_response(payload, offset)
                if answer is not None:
                    return answer
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            wanted = self.buffer[0] - len(self.buffer) if self.buffer and self.buffer[0] > len(self.buffer) else 1
            self.buffer += self.port.read(max(1, min(wanted, MAX_BLOCK)), left)


def _parse_identify_response(payload: bytes, offset: int) -> Optional[bytes]:
    """Return the data of an identify_response for ``offset``, or ``None`` for any other message."""
    message, position = decode_int(payload, 0)
    if message != IDENTIFY_RESPONSE:
        return None
    start, position = decode_int(payload, position)
    length, position = decode_int(payload, position)
    data = payload[position : position + length]
    if start != offset or len(data) != length:
        return None
    return data


def identify(port: Port, timeout: float = 0.5, tries: int = 6) -> Dictionary:
    """Ask the board behind an open port for its dictionary.

    Raises ``NoAnswerError`` when no Klipper firmware answers, ``ProtocolError`` when what it sends is no dictionary.
    """
    port.discard_input()
    conversation = _Conversation(port)
    raw = b""
    while len(raw) < MAX_DICTIONARY:
        piece = conversation.identify(len(raw), timeout, tries)
        if not piece:
            return parse_dictionary(raw, port.name)
        raw += piece
    raise ProtocolError(f"{port.name}: the Klipper dictionary does not end within {MAX_DICTIONARY} bytes")


def parse_dictionary(raw: bytes, name: str) -> Dictionary:
    """Read what a board has sent, whatever that is; raises ``ProtocolError``."""
    try:
        fields = json.loads(_inflated(raw))
        return Dictionary(
            version=str(fields["version"]),
            build_versions=str(fields.get("build_versions", "")),
            constants=dict(fields["config"]),
            raw=raw,
        )
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"{name}: the board sent no Klipper dictionary ({len(raw)} bytes): {error}") from error


def _inflated(raw: bytes) -> bytes:
    """Return the text, of which a few bytes could make any amount."""
    stream = zlib.decompressobj()
    text = stream.decompress(raw, MAX_TEXT)
    if not stream.eof:
        raise ValueError(f"its text is cut off, or longer than {MAX_TEXT} bytes")
    return text
