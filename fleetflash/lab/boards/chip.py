"""The WCH chips a board can carry: ISP chip id, flash size, unique id."""

import hashlib
import struct
from dataclasses import dataclass

DEVICE_TYPE = 0x19  # CH32V20x series

# ISP chip id -> name, code flash in KiB (WCH's series list, as in wchisp's devices/0x19-CH32V20x.yaml).
CHIPS = {
    0x30: ("CH32V203C8U6", 64),
    0x31: ("CH32V203C8T6", 64),
    0x32: ("CH32V203K8T6", 64),
    0x33: ("CH32V203C6T6", 32),
    0x34: ("CH32V203RBT6", 128),
    0x35: ("CH32V203K6T6", 32),
    0x36: ("CH32V203G6U6", 32),
    0x37: ("CH32V203F6P6", 32),
    0x3B: ("CH32V203G8R6", 64),
}


@dataclass(frozen=True)
class Chip:
    """One physical chip."""

    chip_id: int
    uid: bytes
    name: str
    flash_size: int

    @classmethod
    def make(cls, chip_id: int, uid: bytes) -> "Chip":
        """Raises ValueError for an unknown chip id or a unique id that is not 8 bytes."""
        if chip_id not in CHIPS:
            known = ", ".join(f"0x{known:02x}" for known in CHIPS)
            raise ValueError(f"unknown chip id 0x{chip_id:02x}; known: {known}")
        if len(uid) != 8:
            raise ValueError(f"a unique id has 8 bytes, not {len(uid)}")
        name, kib = CHIPS[chip_id]
        return cls(chip_id, uid, name, kib * 1024)


def complete_uid(first: bytes) -> bytes:
    """Six bytes and their check word.

    The last two bytes of a real id are the sum of the first three 16-bit words, little-endian.
    Seen in CD-AB-1A-35-E2-BD-C9-9E (a real CH32V203C8T6, wchisp issue 103); flash tools may refuse other ids.
    """
    return first + struct.pack("<H", sum(struct.unpack("<3H", first)) & 0xFFFF)


def uid_from_name(name: str) -> bytes:
    """A valid unique id that is always the same for the same name."""
    return complete_uid(hashlib.sha256(name.encode()).digest()[:6])
