"""What lives in the chip and outlives the program that runs on it: flash, registers, RAM."""

from dataclasses import dataclass

from fleetflash.lab.boards.esp.chips import EspChip
from fleetflash.lab.boards.esp.efuses import Security
from fleetflash.lab.boards.esp.ram import Ram
from fleetflash.lab.boards.esp.registers import Registers
from fleetflash.lab.boards.esp.spi_flash import SpiFlash


@dataclass(frozen=True)
class Core:
    """Registers and RAM are new after every reset, the rest stays."""

    chip: EspChip
    mac: bytes
    security: Security
    flash: SpiFlash
    registers: Registers
    ram: Ram

    @classmethod
    def after_reset(cls, chip: EspChip, mac: bytes, security: Security, flash: SpiFlash) -> "Core":
        return cls(chip, mac, security, flash, Registers(chip, mac, security, flash), Ram(chip))
