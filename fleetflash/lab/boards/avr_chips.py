"""AVR chips as their bootloaders find them on Arduino-like boards.

Sources: Microchip's data sheets of the ATmega328P and ATmega640/1280/2560 (signature, sizes, "Boot loader support",
times of page erase, page write and EEPROM writes), and the fuses that Arduino's ``boards.txt`` burns.
"""

import random
from dataclasses import dataclass

KIB = 1024
PAGE_ERASE_SECONDS = 0.0045
PAGE_WRITE_SECONDS = 0.0045
EEPROM_BYTE_SECONDS = 0.0034


@dataclass(frozen=True)
class Avr:
    """Sizes in bytes; ``boot_size``: the boot section at the end of flash, which its lock bits keep from being written.

    ``version``: what the bootloader keeps in the last two bytes, least significant first.
    """

    name: str
    mcu: str
    signature: bytes
    flash_size: int
    page: int
    boot_size: int
    eeprom_size: int
    low_fuse: int
    high_fuse: int
    extended_fuse: int
    lock_bits: int
    version: bytes

    @property
    def application_size(self) -> int:
        return self.flash_size - self.boot_size

    def boot_section(self) -> bytes:
        """What stands for the bootloader's own code: the same bytes for every board of this chip."""
        code = random.Random(self.name).randbytes(self.boot_size // 2 - len(self.version))
        # As real ones do, it leaves a part of its section erased.
        return code.ljust(self.boot_size - len(self.version), b"\xff") + self.version


ATMEGA328P = Avr(
    name="ATmega328P",
    mcu="atmega328p",
    signature=bytes.fromhex("1e950f"),
    flash_size=32 * KIB,
    page=128,
    boot_size=512,
    eeprom_size=KIB,
    low_fuse=0xFF,
    high_fuse=0xDE,
    extended_fuse=0xFD,
    lock_bits=0xCF,
    version=b"\x03\x08",
)

ATMEGA2560 = Avr(
    name="ATmega2560",
    mcu="atmega2560",
    signature=bytes.fromhex("1e9801"),
    flash_size=256 * KIB,
    page=256,
    boot_size=8 * KIB,
    eeprom_size=4 * KIB,
    low_fuse=0xFF,
    high_fuse=0xD8,
    extended_fuse=0xFD,
    lock_bits=0xCF,
    version=b"",
)
