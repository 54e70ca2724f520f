"""What a flash tool's process is told and answers, as frames of ``wire`` over its standard streams.

Agent → tool::

    {"type": "call", "operation": ..., "bytes": n, ...}     then pieces of n bytes in all

Tool → agent::

    {"type": "progress", "phase": ..., "done": n, "total": n}
    {"type": "result", "ok": true, "bytes": n, ...}         then pieces of n bytes in all
    {"type": "result", "ok": false, "kind": ..., "error": ...}

Both send bytes as ``{"type": "piece", "data": base64}``: DATA frames belong to the port, which may be served over the
same streams.
"""

import base64
from typing import Any, Callable, Dict, Iterator

from fleetflash.agent import wire

Message = Dict[str, Any]

#: Bytes of one piece: in base64 it is well below the window of a served port.
PIECE = 96 * 1024

#: What went wrong, for the agent's error types.
SILENT, PROTECTED, MISMATCH, PORT, TOOL = "silent", "protected", "mismatch", "port", "tool"


def pieces(data: bytes) -> Iterator[Message]:
    """Yield the messages that carry ``data``."""
    for offset in range(0, len(data), PIECE):
        yield {"type": "piece", "data": base64.b64encode(data[offset : offset + PIECE]).decode()}


def collect(size: int, receive: Callable[[], Message]) -> bytes:
    """Return the ``size`` bytes that the next messages carry; raises ``wire.WireError``."""
    data = bytearray()
    while len(data) < size:
        message = receive()
        if message["type"] != "piece":
            raise wire.WireError(f"expected {size - len(data)} bytes more, got {message['type']!r}")
        data += base64.b64decode(str(message["data"]))
    return bytes(data)
