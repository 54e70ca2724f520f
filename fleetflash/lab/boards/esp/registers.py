"""The address space that READ_REG and WRITE_REG see: registers with a meaning, and plain memory for the rest."""

from fleetflash.lab.boards.esp.chips import EspChip
from fleetflash.lab.boards.esp.efuses import Security, words
from fleetflash.lab.boards.esp.spi_controller import USER_COMMAND, SpiController
from fleetflash.lab.boards.esp.spi_flash import SpiFlash

MAGIC_REGISTER = 0x4000_1000
CRYSTAL = 40_000_000
ALL_BITS = 0xFFFF_FFFF


class Registers:
    """The registers of one chip from one reset to the next."""

    def __init__(self, chip: EspChip, mac: bytes, security: Security, flash: SpiFlash) -> None:
        self._memory: dict[int, int] = {}
        self._fixed = {
            MAGIC_REGISTER: chip.magic,
            chip.strap_register: chip.strap_download,
            **words(chip, mac, security),
        }
        self._efuses = range(chip.efuse_base, chip.efuse_base + 0x200)
        self._clock_register = chip.uart_clock_register
        self.spi = SpiController(chip.spi, flash, self._memory)

    def set_baud(self, baud: int) -> None:
        """The divider by which the UART makes its rate of the crystal's (TRM, UART_CLKDIV)."""
        self._memory[self._clock_register] = round(CRYSTAL / baud)

    def read(self, address: int) -> int:
        if address in self._fixed or address in self._efuses:
            return self._fixed.get(address, 0)
        return self._memory.get(address, 0)

    def write(self, address: int, value: int, mask: int = ALL_BITS) -> None:
        """Change the bits of ``mask``. What is burnt or wired can't be written."""
        if address in self._fixed or address in self._efuses:
            return
        self._memory[address] = self._memory.get(address, 0) & ~mask | value & mask
        if address == self.spi.command_register and self._memory[address] & USER_COMMAND:
            self._memory[address] &= ~USER_COMMAND
            self.spi.start()
