"""Klipper's message blocks and integers, from the board's side (Klipper docs/Protocol.md; PROTOCOLS.md)."""

SYNC = 0x7E
DESTINATION = 0x10
SEQUENCE_MASK = 0x0F
SHORTEST = 5
LONGEST = 64
# No valid block, and meant so (Klipper docs/Bootloader_Entry.md); the sync byte that clients send before it is padding.
BOOTLOADER_REQUEST = b" \x1c Request Serial Bootloader!! ~"


def crc16(data: bytes) -> int:
    """CRC-16/MCRF4XX (reflected 0x1021, start 0xFFFF)."""
    crc = 0xFFFF
    for value in data:
        crc ^= value
        for _ in range(8):
            crc = crc >> 1 ^ 0x8408 if crc & 1 else crc >> 1
    return crc


def block(sequence: int, payload: bytes) -> bytes:
    """One message block: length, sequence, payload, CRC high byte first, sync."""
    head = bytes([len(payload) + SHORTEST, DESTINATION | sequence & SEQUENCE_MASK]) + payload
    return head + crc16(head).to_bytes(2, "big") + bytes([SYNC])


def encode_integer(value: int) -> bytes:
    """Seven bits a byte, most significant first; as many bytes as keep the sign unambiguous."""
    if value >= 1 << 31:
        value -= 1 << 32
    groups = [value & 0x7F]
    # The first group can stand for -32..95; each further one widens that by seven bits.
    low, high = -0x20, 0x60
    while not low <= value < high:
        low, high = low << 7, high << 7
        groups.insert(0, 0x80 | value >> 7 * len(groups) & 0x7F)
    return bytes(groups)


def decode_integer(data: bytes, position: int) -> tuple[int, int]:
    """The signed value and the position after it; raises IndexError at the end of the data."""
    value = data[position]
    result = value & 0x7F
    if value & 0x60 == 0x60:
        result -= 0x80
    while value & 0x80:
        position += 1
        value = data[position]
        result = result << 7 | value & 0x7F
    return result, position + 1


class BlockReader:
    """Finds blocks in a byte stream, as the firmware does: one complaint for each stretch of bad bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need_sync = False
        self._complained = False
        self.bootloader_requested = False

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> tuple[int, bytes] | bool | None:
        """A (sequence, payload) pair; True: answer a bad stretch; None: more bytes are needed."""
        while self._buffer:
            if self._need_sync:
                end = self._buffer.find(SYNC)
                del self._buffer[: end + 1 or len(self._buffer)]
                if end < 0:
                    return None
                self._need_sync = False
                if not self._complained:
                    self._complained = True
                    return True
                continue
            if self._buffer[0] == SYNC:
                # A sync byte between blocks is padding.
                del self._buffer[0]
                continue
            length = self._buffer[0]
            if not SHORTEST <= length <= LONGEST:
                self._need_sync = True
                continue
            if len(self._buffer) >= 2 and self._buffer[1] & ~SEQUENCE_MASK != DESTINATION:
                self._need_sync = True
                continue
            if len(self._buffer) < length:
                return None
            raw = bytes(self._buffer[:length])
            self.bootloader_requested |= raw == BOOTLOADER_REQUEST
            if raw[-1] != SYNC or crc16(raw[:-3]) != int.from_bytes(raw[-3:-1], "big"):
                self._need_sync = True
                continue
            del self._buffer[:length]
            self._complained = False
            return raw[1] & SEQUENCE_MASK, raw[2:-3]
        return None
