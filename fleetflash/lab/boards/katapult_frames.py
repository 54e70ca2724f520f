"""Katapult on the wire: frames and their CRC.

Source: Katapult's ``src/command.h`` (codes, layout, limits) and ``src/command.c`` (how bad bytes are answered).
"""

import struct

from fleetflash.lab.boards.klipper_wire import crc16

HEAD, TRAILER = b"\x01\x88", b"\x99\x03"
CONNECT, WRITE, EOF, READ, COMPLETE, CAN_ID, SD_STATUS = range(0x11, 0x18)
ACK, NACK, ERROR, BUSY = 0xA0, 0xF1, 0xF2, 0xF3
SHORTEST, LONGEST = 8, 128
PROTOCOL_VERSION = 0x0001_0100  # 1.1.0


def frame(code: int, payload: bytes = b"") -> bytes:
    """Head, code, payload length in words of four bytes, payload, CRC low byte first, trailer."""
    body = bytes([code, len(payload) // 4]) + payload
    return HEAD + body + struct.pack("<H", crc16(body)) + TRAILER


def acknowledge(command: int, payload: bytes = b"") -> bytes:
    """An answer begins with the command that it answers, as a word."""
    return frame(ACK, struct.pack("<I", command) + payload)


class FrameReader:
    """Finds frames in a byte stream, and says once for every stretch of bad bytes that it was bad."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need_head = False
        self._complained = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> tuple[int, bytes] | bool | None:
        """A (code, payload) pair; True: answer a bad stretch; None: more bytes are needed."""
        while self._buffer:
            if self._need_head:
                start = self._buffer.find(HEAD[:1])
                del self._buffer[: start if start >= 0 else len(self._buffer)]
                self._need_head = start < 0
                if not self._complained:
                    self._complained = True
                    return True
                continue
            if len(self._buffer) < SHORTEST:
                return None
            length = self._buffer[3] * 4 + 8
            if self._buffer[:2] != HEAD or length > LONGEST:
                self._bad()
                continue
            if len(self._buffer) < length:
                return None
            body, crc = bytes(self._buffer[2 : length - 4]), bytes(self._buffer[length - 4 : length - 2])
            if self._buffer[length - 2 : length] != TRAILER or struct.pack("<H", crc16(body)) != crc:
                self._bad()
                continue
            del self._buffer[:length]
            self._complained = False
            return body[0], body[2:]
        return None

    def _bad(self) -> None:
        """Look for the next head beyond the one here."""
        self._need_head = True
        if self._buffer[:1] == HEAD[:1]:
            del self._buffer[0]
