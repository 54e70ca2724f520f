"""What the STM32 boot ROM's product id says of a chip: how its flash is divided and where its unique id is.

Source of the product ids: ST AN2606, table "Bootloader device-dependent parameters". Of pages and sectors: the section
"Flash memory organization" of each family's reference manual; of unique id and flash size register: its chapter "Device
electronic signature" (F0: RM0091, F1: RM0008, F4: RM0090, RM0368, RM0390, G0: RM0444, H7: RM0433, RM0468).

Chips with two banks number the pages of the second from another base, which differs from chip to chip, so only the
first bank is written.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

FLASH_BASE = 0x0800_0000
KIB = 1024


@dataclass(frozen=True)
class Family:
    """Addresses: ``uid`` of the 12-byte unique id, ``flash_size`` of the 16-bit register with the size in KiB."""

    name: str
    uid: int
    flash_size: int


F0 = Family("stm32f0", 0x1FFF_F7AC, 0x1FFF_F7CC)
F1 = Family("stm32f1", 0x1FFF_F7E8, 0x1FFF_F7E0)
F4 = Family("stm32f4", 0x1FFF_7A10, 0x1FFF_7A22)
G0 = Family("stm32g0", 0x1FFF_7590, 0x1FFF_75E0)
H7 = Family("stm32h7", 0x1FF1_E800, 0x1FF1_E880)
FAMILIES = (F0, F1, F4, G0, H7)


def family_of(mcu: str) -> Optional[Family]:
    """Return the family of a microcontroller by Klipper's name for it, e.g. ``stm32f103xe``; none when not known."""
    return next((family for family in FAMILIES if mcu.startswith(family.name)), None)


@dataclass(frozen=True)
class Device:
    """A product id. ``sectors``: (how many, bytes of each), from the start of the flash, numbered from 0."""

    family: Family
    sectors: Tuple[Tuple[int, int], ...]

    @property
    def writable(self) -> int:
        """How many bytes from the start of the flash can be erased by their number."""
        return sum(count * size for count, size in self.sectors)

    @property
    def sector_seconds(self) -> float:
        """How long the erase of one sector takes at most.

        40 ms for a page of up to 2 KiB (STM32F103 and STM32G0B1 data sheets, table "Flash memory characteristics"), 4 s
        for a sector of 128 KiB (STM32F446 data sheet, "Flash memory programming", 8-bit parallelism); with a margin.
        """
        return 0.1 if max(size for _, size in self.sectors) <= 2 * KIB else 4.0

    def sectors_of(self, start: int, end: int) -> List[int]:
        """Return the numbers of the sectors that hold the bytes from offset ``start`` up to ``end``."""
        edges = self._edges()
        return [number for number in range(len(edges) - 1) if edges[number] < end and edges[number + 1] > start]

    def is_boundary(self, offset: int) -> bool:
        """Whether a sector begins at ``offset``, so that an erase from there on spares what lies before."""
        return offset in self._edges()

    def _edges(self) -> List[int]:
        edges = [0]
        for count, size in self.sectors:
            edges += [edges[-1] + size * number for number in range(1, count + 1)]
        return edges


def _pages(family: Family, count: int, size: int) -> Device:
    return Device(family, ((count, size),))


def _f4(large: int) -> Device:
    return Device(F4, ((4, 16 * KIB), (1, 64 * KIB), (large, 128 * KIB)))


DEVICES: Dict[int, Device] = {
    0x410: _pages(F1, 128, 1 * KIB),  # F103x8, xB
    0x412: _pages(F1, 32, 1 * KIB),  # F103x4, x6
    0x414: _pages(F1, 256, 2 * KIB),  # F103xC, xD, xE
    0x418: _pages(F1, 128, 2 * KIB),  # F105, F107
    0x440: _pages(F0, 64, 1 * KIB),  # F05x, F030x8
    0x444: _pages(F0, 32, 1 * KIB),  # F03x
    0x445: _pages(F0, 32, 1 * KIB),  # F04x, F070x6
    0x448: _pages(F0, 64, 2 * KIB),  # F07x
    0x442: _pages(F0, 128, 2 * KIB),  # F09x
    0x413: _f4(7),  # F405, F407
    0x419: _f4(7),  # F42x, F43x, first bank
    0x423: _f4(1),  # F401xB, xC
    0x433: _f4(3),  # F401xD, xE
    0x431: _f4(3),  # F411
    0x421: _f4(3),  # F446
    0x466: _pages(G0, 32, 2 * KIB),  # G03x, G04x
    0x460: _pages(G0, 64, 2 * KIB),  # G07x, G08x
    0x467: _pages(G0, 64, 2 * KIB),  # G0B1, G0C1, first bank of the smallest
    0x450: _pages(H7, 8, 128 * KIB),  # H743, H753, first bank
    0x483: _pages(H7, 8, 128 * KIB),  # H72x, H73x
}
