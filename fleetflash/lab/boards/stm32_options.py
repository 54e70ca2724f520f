"""Option bytes of an STM32: read-out and write protection, kept beside the flash file.

Sources: PM0075, 2.5 and 3.4 (STM32F10xxx: RDP is A5 with its complement, anything else protects; a WRP bit that is
0 protects four pages); RM0390, 3.6 and 3.9 (STM32F4: RDP AA is level 0, CC level 2 for ever, else level 1; a nWRP bit
that is 0 protects its sector). As on the chip, what was loaded at the last reset is in force.
"""

import json
from pathlib import Path

from fleetflash.lab.boards.flash import FlashError
from fleetflash.lab.boards.stm32_chips import Stm32

LENGTH = 16
F4_WRP_BITS = 8


class Stm32Options:
    """Sixteen bytes at ``chip.option_bytes``, written through to ``path`` as JSON."""

    def __init__(self, path: Path, chip: Stm32) -> None:
        self._path = path
        self._chip = chip
        self.raw = chip.factory_options
        if path.exists():
            self.raw = bytes.fromhex(json.loads(path.read_text())["option_bytes"])
            if len(self.raw) != LENGTH:
                raise FlashError(f"{path}: expected {LENGTH} option bytes in hexadecimal, found {len(self.raw)}")
        else:
            self.store(self.raw)
        self._loaded = self.raw

    def load(self) -> None:
        """Reset: the stored bytes take effect."""
        self._loaded = self.raw

    def store(self, raw: bytes) -> None:
        self.raw = raw
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.write_text(json.dumps({"option_bytes": raw.hex()}) + "\n")
        temporary.replace(self._path)

    @property
    def level(self) -> int:
        """Read-out protection in force: 0 none, 1 until it is lifted by an erase, 2 (STM32F4) for ever."""
        if self._chip.half_words:
            return 0 if self._loaded[:2] == b"\xa5\x5a" else 1
        return {0xAA: 0, 0xCC: 2}.get(self._loaded[1], 1)

    def write_protected(self, page: int) -> bool:
        return not self._mask(self._loaded) >> page // self._chip.pages_per_bit & 1

    @property
    def any_write_protected(self) -> bool:
        return any(self.write_protected(page) for page in range(len(self._chip.pages)))

    @property
    def bits(self) -> int:
        """How many units of write protection there are."""
        return 32 if self._chip.half_words else F4_WRP_BITS

    def protect_writing(self, units: set[int]) -> None:
        """Store protection for exactly these units, from the next reset on."""
        mask = (1 << self.bits) - 1
        for unit in units:
            mask &= ~(1 << unit)
        if self._chip.half_words:
            pairs = b"".join(bytes([value, value ^ 0xFF]) for value in mask.to_bytes(4, "little"))
            self.store(self.raw[:8] + pairs)
        else:
            self.store(self.raw[:8] + bytes([mask]) + self.raw[9:])

    def protect_reading(self, on: bool) -> None:
        """Store read-out protection, level 1 or none, from the next reset on."""
        if self._chip.half_words:
            self.store((b"\x00\xff" if on else b"\xa5\x5a") + self.raw[2:])
        else:
            self.store(self.raw[:1] + (b"\x55" if on else b"\xaa") + self.raw[2:])

    def _mask(self, raw: bytes) -> int:
        return int.from_bytes(raw[8:16:2], "little") if self._chip.half_words else raw[8]
