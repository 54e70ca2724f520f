"""STM32 chips as their system memory bootloader and its clients see them.

Sources: AN2606, "Device-dependent bootloader parameters" (product ids, RAM that the bootloader keeps, system memory,
address of the bootloader id); PM0075 and RM0008 (STM32F10xxx: pages, option bytes, "Device electronic signature");
RM0390 (STM32F446: sectors, option bytes, signature); the chips' data sheets, "Flash memory" (times, typical).
"""

import hashlib
from dataclasses import dataclass, field

KIB = 1024
FLASH_BASE = 0x0800_0000
UID_LENGTH = 12


@dataclass(frozen=True)
class Stm32:
    """``pages``: lengths of what is erased at once, in bytes, with the seconds that takes in ``erase_seconds``.

    ``version``: of the bootloader's USART protocol, 0x22 for 2.2. ``extended``: it erases by command 0x44, not 0x43.
    ``half_words``: flash takes half-words, and refuses those over cells that are not erased (PM0075, 2.3.3); otherwise
    it clears bits whatever was there. ``pages_per_bit``: pages that one write protection bit covers.
    """

    name: str
    mcu: str
    product_id: int
    version: int
    extended: bool
    pages: tuple[int, ...]
    erase_seconds: dict[int, float] = field(hash=False)
    mass_erase_seconds: float
    program_seconds: float  # per byte
    half_words: bool
    ram: range
    system: range
    option_bytes: int
    uid: int
    flash_size_register: int
    bootloader_id: tuple[int, int]  # address, value
    pages_per_bit: int
    factory_options: bytes

    @property
    def flash_size(self) -> int:
        return sum(self.pages)

    def page(self, number: int) -> tuple[int, int, float]:
        """Offset, length and erase time in seconds; raises IndexError."""
        length = self.pages[number]
        return sum(self.pages[:number]), length, self.erase_seconds[length]

    def page_at(self, offset: int) -> int:
        """The number of the page that holds this offset into the flash."""
        for number, length in enumerate(self.pages):
            if offset < length:
                return number
            offset -= length
        raise IndexError(offset)


STM32F103XB = Stm32(
    name="STM32F103xB",
    mcu="stm32f103xe",  # what Klipper calls every STM32F103
    product_id=0x410,
    version=0x22,
    extended=False,
    pages=(KIB,) * 128,
    erase_seconds={KIB: 0.020},
    mass_erase_seconds=0.020,
    program_seconds=26e-6,
    half_words=True,
    ram=range(0x2000_0200, 0x2000_5000),
    system=range(0x1FFF_F000, 0x1FFF_F800),
    option_bytes=0x1FFF_F800,
    uid=0x1FFF_F7E8,
    flash_size_register=0x1FFF_F7E0,
    bootloader_id=(0x1FFF_F7D6, 0x22),
    pages_per_bit=4,
    # RDP nRDP USER nUSER DATA0 nDATA0 DATA1 nDATA1, then WRP0 to WRP3, each with its complement.
    factory_options=bytes.fromhex("a55aff00ff00ff00ff00ff00ff00ff00"),
)

STM32F446XE = Stm32(
    name="STM32F446xE",
    mcu="stm32f446xx",
    product_id=0x421,
    version=0x31,
    extended=True,
    pages=(16 * KIB,) * 4 + (64 * KIB,) + (128 * KIB,) * 3,
    erase_seconds={16 * KIB: 0.25, 64 * KIB: 0.55, 128 * KIB: 1.0},
    mass_erase_seconds=4.0,
    program_seconds=4e-6,
    half_words=False,
    ram=range(0x2000_3000, 0x2002_0000),
    system=range(0x1FFF_0000, 0x1FFF_7A30),
    option_bytes=0x1FFF_C000,
    uid=0x1FFF_7A10,
    flash_size_register=0x1FFF_7A22,
    bootloader_id=(0x1FFF_76DE, 0x90),
    pages_per_bit=1,
    # USER and BOR level, RDP; nWRP in bytes 8 and 9.
    factory_options=bytes.fromhex("efaaffffffffffffff7fffffffffffff"),
)


def uid_from_name(name: str) -> bytes:
    """Twelve bytes that are always the same for the same name."""
    return hashlib.sha256(f"stm32 {name}".encode()).digest()[:UID_LENGTH]
