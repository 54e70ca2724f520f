"""Flash memory in a file.

Every erase and program reaches the file at once, so a killed board stays half-written.
"""

import fcntl
import json
import os
from pathlib import Path

ERASED = 0xFF
PAGE = 256  # bytes programmed at once on CH32V20x (fast page programming)
SECTOR = 1024  # bytes an ISP erase counts in

# What a CH32V203C8T6 as delivered reports: RDPR nRDPR USER nUSER, DATA, WRP (wchisp issue 103, a real chip).
FACTORY_OPTIONS = bytes.fromhex("a55a3fc000ff00ffffffffff")


UNPROTECTED = b"\xa5\x5a"  # RDPR and its complement; any other pair protects


class FlashError(Exception):
    """Programming went over bytes that were not erased, or outside the flash."""


def open_flash(path: Path, size: int, otherwise: str) -> int:
    """Open the file of a flash of ``size`` bytes for this process alone, filled up as erased; return its descriptor.

    Raises FlashError when another board has it, or when it is longer; ``otherwise``: what is expected then, and what to
    do.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FlashError(f"{path}: another board is using this flash file") from None
    found = os.fstat(descriptor).st_size
    if found > size:
        os.close(descriptor)
        raise FlashError(f"{path}: {found} bytes, but {otherwise}")
    if found < size:
        os.pwrite(descriptor, bytes([ERASED]) * (size - found), found)
    return descriptor


class CodeFlash:
    """The program memory, write-through in ``path``; created erased."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.generation = 0
        self._fd = open_flash(path, size, f"this chip has {size}; name another file or chip id")

    def close(self) -> None:
        """Let another board have the file."""
        os.close(self._fd)

    def read(self, address: int = 0, length: int | None = None) -> bytes:
        return os.pread(self._fd, self.size if length is None else length, address)

    def erase(self, address: int, length: int) -> None:
        self._check(address, length)
        self._write(address, bytes([ERASED]) * length)

    def program(self, address: int, data: bytes) -> None:
        """Clear bits. Over bytes that are not erased the result is the AND of both, and FlashError."""
        before = self.clear_bits(address, data)
        for offset, (old, new) in enumerate(zip(before, data, strict=True)):
            if old != ERASED and new != ERASED:
                raise FlashError(f"0x{address + offset:06x} is not erased")

    def clear_bits(self, address: int, data: bytes) -> bytes:
        """Program without looking: the result is the AND of both. Returns what was there before."""
        self._check(address, len(data))
        before = self.read(address, len(data))
        self._write(address, bytes(old & new for old, new in zip(before, data, strict=True)))
        return before

    def _check(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > self.size:
            raise FlashError(f"0x{address:06x}+{length} is outside the flash of {self.size} bytes")

    def _write(self, address: int, data: bytes) -> None:
        os.pwrite(self._fd, data, address)
        self.generation += 1


class OptionBytes:
    """Read and write protection, kept as JSON beside the flash file.

    As on the real chip the effective protection is what was loaded at the last reset: ``load``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw = FACTORY_OPTIONS
        if path.exists():
            stored = json.loads(path.read_text())
            self.raw = bytes.fromhex(stored["rdpr_user"] + stored["data"] + stored["wrp"])
            if len(self.raw) != len(FACTORY_OPTIONS):
                raise FlashError(f"{path}: expected three fields of four bytes in hexadecimal")
        else:
            self.store(self.raw)
        self.read_protected = False
        self._write_mask = 0xFFFF_FFFF
        self.load()

    @property
    def asks_protection(self) -> bool:
        """Whether the bytes as stored protect the flash from the next reset on."""
        return self.raw[:2] != UNPROTECTED

    def load(self) -> None:
        """Reset: the stored bytes take effect."""
        self.read_protected = self.asks_protection
        self._write_mask = int.from_bytes(self.raw[8:12], "little")

    def write_protected(self, address: int, length: int) -> bool:
        """Whether any 4 KiB section of the range is protected (bit clear; the last bit covers the rest)."""
        first, last = address // 4096, (address + max(length, 1) - 1) // 4096
        return any(not self._write_mask >> min(section, 31) & 1 for section in range(first, last + 1))

    def store(self, raw: bytes) -> None:
        self.raw = raw
        fields = {"rdpr_user": raw[0:4].hex(), "data": raw[4:8].hex(), "wrp": raw[8:12].hex()}
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.write_text(json.dumps(fields) + "\n")
        temporary.replace(self.path)
