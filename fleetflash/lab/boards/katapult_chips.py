"""Chips that Katapult runs on, as its flash code treats them.

Sources: Katapult's ``src/stm32/flash.c`` and ``src/rp2040/flash.c`` (what is erased when), ``src/Kconfig`` and
``src/*/Kconfig`` (application offsets); the STM32's own numbers are those of ``stm32_chips``; W25Q16JV data sheet,
9.6 (times of the RP2040's flash chip, typical).
"""

import hashlib
import random
from dataclasses import dataclass

from fleetflash.lab.boards.stm32_chips import FLASH_BASE, STM32F103XB, STM32F446XE, Stm32

KIB = 1024
VERSION = "v0.0.1-110-gb0bf421"


@dataclass(frozen=True)
class KatapultChip:
    """``base``: the address of flash; ``offset``: of the application in it. ``pages``: what is erased at once.

    ``buffered``: blocks are collected to pages of 256 bytes, and a sector is erased when its first page is written
    (RP2040); otherwise every block is written at once and nothing that is not erased is written over (STM32).
    """

    name: str
    mcu: str
    base: int
    offset: int
    pages: tuple[int, ...]
    erase_seconds: dict[int, float]
    program_seconds: float  # per byte
    uid_length: int
    buffered: bool = False
    signature: tuple[range, int] | None = None  # system memory, and the register in it with the flash size in KiB

    @property
    def flash_size(self) -> int:
        return sum(self.pages)

    @property
    def application(self) -> int:
        """The address of the application."""
        return self.base + self.offset

    def page(self, offset: int) -> tuple[int, int, float]:
        """Start, length and erase time of the page that holds this offset into the flash."""
        start = 0
        for length in self.pages:
            if start <= offset < start + length:
                return start, length, self.erase_seconds[length]
            start += length
        raise IndexError(offset)

    def own_code(self) -> bytes:
        """What stands for Katapult itself, in front of the application: the same for every board of this chip."""
        code = random.Random(f"katapult {self.name}").randbytes(min(4 * KIB, self.offset))
        return code.ljust(self.offset, b"\xff")

    def uid_from_name(self, name: str) -> bytes:
        return hashlib.sha256(f"katapult {name}".encode()).digest()[: self.uid_length]


def _stm32(chip: Stm32, offset: int) -> KatapultChip:
    return KatapultChip(
        name=chip.name,
        mcu=chip.mcu,
        base=FLASH_BASE,
        offset=offset,
        pages=chip.pages,
        erase_seconds=chip.erase_seconds,
        program_seconds=chip.program_seconds,
        uid_length=12,
        signature=(chip.system, chip.flash_size_register),
    )


KATAPULT_F103 = _stm32(STM32F103XB, 8 * KIB)
KATAPULT_F446 = _stm32(STM32F446XE, 32 * KIB)
KATAPULT_RP2040 = KatapultChip(
    name="RP2040",
    mcu="rp2040",
    base=0x1000_0000,
    offset=16 * KIB,
    pages=(4 * KIB,) * 512,
    erase_seconds={4 * KIB: 0.045},
    program_seconds=0.0004 / 256,
    uid_length=8,
    buffered=True,
)
