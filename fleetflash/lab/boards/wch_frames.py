"""WCH ISP on the wire: request and response frames over a UART, command codes, and the session key.

Sources: PROTOCOLS.md; wchisp (``src/protocol.rs``, ``src/transport/serial.rs``); BMCU-Klipper's
``scripts/bmcu_isp.py``.
"""

import struct

REQUEST_HEAD = b"\x57\xab"
RESPONSE_HEAD = b"\x55\xaa"

IDENTIFY, END, KEY, ERASE, PROGRAM, VERIFY, READ_CONFIG, WRITE_CONFIG, SET_BAUD = (
    *range(0xA1, 0xA9),
    0xC5,
)
NAMES = {
    IDENTIFY: "identify",
    END: "end",
    KEY: "key",
    ERASE: "erase",
    PROGRAM: "program",
    VERIFY: "verify",
    READ_CONFIG: "config",
    WRITE_CONFIG: "config",
    SET_BAUD: "baud",
}

LONGEST_DATA = 0x80
GAP = 0.25  # seconds of silence in the middle of a frame after which it is given up


def session_key(seed: bytes, uid: bytes, chip_id: int) -> bytes:
    """The XOR key: seven seed bytes picked by the seed's length, each XORed with the sum of the unique id.

    The rule is the one in BMCU-Klipper's ``bmcu_isp.py``; with a zero seed it gives ``[sum(uid)] * 8``, the
    last byte plus the chip id, as PROTOCOLS.md says.
    """
    fifth, seventh = len(seed) // 5, len(seed) // 7
    total = sum(uid) & 0xFF
    picked = (4 * seventh, fifth, seventh, 6 * seventh, 3 * seventh, 3 * fifth, 5 * seventh)
    key = [seed[position] ^ total for position in picked]
    return bytes([*key, (key[0] + chip_id) & 0xFF])


def response(command: int, data: bytes) -> bytes:
    body = bytes([command, 0x00]) + struct.pack("<H", len(data)) + data
    return RESPONSE_HEAD + body + bytes([sum(body) & 0xFF])


class FrameReader:
    """Finds requests in a byte stream. What is not a frame with a correct checksum is skipped without an answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._last_byte = 0.0

    def feed(self, data: bytes, at: float) -> None:
        if at - self._last_byte > GAP:
            self._buffer.clear()
        self._last_byte = at
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Command and data of the next request."""
        while True:
            start = self._buffer.find(REQUEST_HEAD)
            if start < 0:
                # The first half of a header may be the last byte here.
                keep = 1 if self._buffer.endswith(REQUEST_HEAD[:1]) else 0
                del self._buffer[: len(self._buffer) - keep]
                return None
            del self._buffer[:start]
            if len(self._buffer) < 5:
                return None
            (length,) = struct.unpack_from("<H", self._buffer, 3)
            if length > LONGEST_DATA:
                del self._buffer[:2]
                continue
            if len(self._buffer) < length + 6:
                return None
            body = bytes(self._buffer[2 : length + 5])
            if sum(body) & 0xFF != self._buffer[length + 5]:
                del self._buffer[:2]
                continue
            del self._buffer[: length + 6]
            return body[0], body[3:]
