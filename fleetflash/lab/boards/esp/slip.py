"""SLIP framing ("Serial Protocol", section "Low Level Protocol"; RFC 1055)."""

END, ESCAPE = 0xC0, 0xDB
ESCAPED_END, ESCAPED_ESCAPE = 0xDC, 0xDD


def frame(payload: bytes) -> bytes:
    """One packet on the wire, with a delimiter on both sides."""
    body = payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + body + b"\xc0"


class SlipReader:
    """Finds packets in a byte stream.

    What stands outside of delimiters is skipped, and so is a packet with an unknown escape or one longer than
    ``longest`` bytes.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = bytearray()
        self._inside = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        """Forget what has come in so far."""
        self._buffer.clear()
        self._inside = False

    def next(self) -> bytes | None:
        """The payload of the next packet."""
        while True:
            if not self._inside:
                start = self._buffer.find(END)
                if start < 0:
                    self._buffer.clear()
                    return None
                del self._buffer[: start + 1]
                self._inside = True
            end = self._buffer.find(END)
            if end < 0:
                if len(self._buffer) > 2 * self._longest:
                    self.clear()
                return None
            body = bytes(self._buffer[:end])
            if not body:
                # Two delimiters in a row: the end of one packet and the start of the next.
                del self._buffer[:1]
                continue
            del self._buffer[: end + 1]
            self._inside = False
            payload = _unescape(body)
            if payload is not None and len(payload) <= self._longest:
                return payload


def _unescape(body: bytes) -> bytes | None:
    """Without escapes, or None when one of them is unknown."""
    first, *parts = body.split(b"\xdb")
    payload = bytearray(first)
    for part in parts:
        if not part or part[0] not in (ESCAPED_END, ESCAPED_ESCAPE):
            return None
        payload.append(END if part[0] == ESCAPED_END else ESCAPE)
        payload += part[1:]
    return bytes(payload)
