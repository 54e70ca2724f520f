"""The address space that an STM32's bootloader lets its client read and write."""

import struct

from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.stm32_chips import FLASH_BASE, Stm32
from fleetflash.lab.boards.stm32_options import LENGTH, Stm32Options


class Stm32Memory:
    """Flash, RAM, system memory with the chip's signature, and option bytes. RAM lasts from reset to reset."""

    def __init__(self, chip: Stm32, uid: bytes, flash: CodeFlash, options: Stm32Options) -> None:
        self.flash_range = range(FLASH_BASE, FLASH_BASE + chip.flash_size)
        self.option_range = range(chip.option_bytes, chip.option_bytes + LENGTH)
        self.ram_range = chip.ram
        self._chip = chip
        self._flash = flash
        self._options = options
        self._ram = bytearray(len(chip.ram))
        self._system = bytearray(b"\xff" * len(chip.system))
        signature = (
            (chip.uid, uid),
            (chip.flash_size_register, struct.pack("<H", chip.flash_size // 1024)),
            (chip.bootloader_id[0], bytes([chip.bootloader_id[1]])),
        )
        for address, value in signature:
            start = address - chip.system.start
            self._system[start : start + len(value)] = value

    def read(self, address: int, length: int) -> bytes | None:
        """The bytes there, or None when some of them are nowhere."""
        if covers(self.flash_range, address, length):
            return self._flash.read(address - FLASH_BASE, length)
        for region, content in ((self.ram_range, self._ram), (self._chip.system, self._system)):
            if covers(region, address, length):
                return bytes(content[address - region.start : address - region.start + length])
        if covers(self.option_range, address, length):
            return self._options.raw[address - self.option_range.start :][:length]
        return None

    def write_ram(self, address: int, data: bytes) -> None:
        start = address - self.ram_range.start
        self._ram[start : start + len(data)] = data


def covers(region: range, address: int, length: int = 1) -> bool:
    """Whether the region holds all of these bytes."""
    return region.start <= address and address + length <= region.stop
