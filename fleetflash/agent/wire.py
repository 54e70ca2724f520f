"""Frames between the controller and an agent, over the standard streams of one SSH exec channel.

After the agent has printed ``MARKER`` on a line of its own (everything before it is noise from a login shell),
both directions carry frames: one byte kind, four bytes big-endian payload length, the payload. Kinds:

- ``JSON``: a UTF-8 JSON object with a key ``type``,
- ``DATA``: raw bytes whose meaning the conversation defines (port bytes, a piece of an uploaded file).
"""

import json
import struct
from typing import Any, BinaryIO, Dict, Optional, Tuple

MARKER = b"FLEETFLASH-AGENT-1"
JSON = b"J"
DATA = b"D"
MAX_PAYLOAD = 16 * 1024 * 1024

_HEADER = struct.Struct("!cI")
HEADER_SIZE = _HEADER.size


class WireError(Exception):
    """The stream does not carry valid frames."""


def encode(kind: bytes, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


def encode_json(message: Dict[str, Any]) -> bytes:
    return encode(JSON, json.dumps(message, separators=(",", ":"), sort_keys=True).encode())


def decode_json(payload: bytes) -> Dict[str, Any]:
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {payload[:80]!r}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError(f"not a message with a type: {payload[:80]!r}")
    return message


def parse_header(header: bytes) -> Tuple[bytes, int]:
    """Return kind and payload length of a frame's first ``HEADER_SIZE`` bytes."""
    kind, length = _HEADER.unpack(header)
    if kind not in (JSON, DATA) or length > MAX_PAYLOAD:
        raise WireError(f"not a frame: {header!r}")
    return kind, length


def read_frame(stream: BinaryIO) -> Optional[Tuple[bytes, bytes]]:
    """Return the next (kind, payload) of a blocking stream, or ``None`` at a clean end of stream."""
    header = _read_exactly(stream, HEADER_SIZE)
    if not header:
        return None
    kind, length = parse_header(header)
    payload = _read_exactly(stream, length) if length else b""
    if len(payload) < length:
        raise WireError("the stream ended inside a frame")
    return kind, payload


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Return ``size`` bytes, or none at all when the stream has ended before the first."""
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            if data:
                raise WireError("the stream ended inside a frame")
            return b""
        data += piece
    return data
