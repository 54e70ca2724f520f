"""What a flash tool's process is told and answers, as frames of ``wire`` over its standard streams.

Agent → tool::

    {"type": "call", "operation": ..., "bytes": n, ...}     then pieces of n bytes in all

Tool → agent::

    {"type": "progress", "phase": ..., "done": n, "total": n}
    {"type": "result", "ok": true, ...}                     after the pieces of what was read
    {"type": "result", "ok": false, "kind": ..., "error": ...}
    {"type": "end"}                                         from the agent: the tool is no longer needed

Both send bytes as ``{"type": "piece", "data": base64}``: DATA frames belong to the port, which may be served over the
same streams.
"""

import base64
from typing import Any, Callable, Dict, Iterable, Iterator

from fleetflash.agent import wire

Message = Dict[str, Any]

#: Bytes of one piece: in base64 it is well below the window of a served port.
PIECE = 96 * 1024

#: What went wrong, for the agent's error types.
SILENT, PROTECTED, MISMATCH, PORT, TOOL = "silent", "protected", "mismatch", "port", "tool"


def call(operation: str, data: bytes, arguments: Message) -> Iterator[Message]:
    """Yield a call and the pieces that go with it."""
    yield {"type": "call", "operation": operation, "bytes": len(data), **arguments}
    yield from pieces(data)


def pieces(data: bytes) -> Iterator[Message]:
    """Yield the messages that carry ``data``."""
    for offset in range(0, len(data), PIECE):
        yield {"type": "piece", "data": base64.b64encode(data[offset : offset + PIECE]).decode()}


def joined(found: Iterable[Message]) -> bytes:
    """Return the bytes of some pieces; raises ``wire.WireError``."""
    try:
        return b"".join(base64.b64decode(piece["data"], validate=True) for piece in found)
    except (KeyError, TypeError, ValueError) as error:
        raise wire.WireError(f"a piece is not base64: {error}") from None


def collect(size: int, receive: Callable[[], Message]) -> bytes:
    """Return the ``size`` bytes that the next messages carry; raises ``wire.WireError``."""
    data = b""
    while len(data) < size:
        message = receive()
        if message["type"] != "piece":
            raise wire.WireError(f"expected {size - len(data)} bytes more, got {message['type']!r}")
        data += joined([message])
    if len(data) > size:
        raise wire.WireError(f"expected {size} bytes, got {len(data)}")
    return data
