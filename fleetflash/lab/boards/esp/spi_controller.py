"""The SPI controller of the flash, as far as "user commands" go: command, data out, data in, through registers.

Source: ESP32 TRM, chapter "SPI Controller" (SPI_CMD, SPI_USER, SPI_USER2, SPI_W0). That esptool reads the flash id
this way is said in "Serial Protocol", section "32-bit Read/Write". Flash commands: W25Q32JV datasheet.
"""

from fleetflash.lab.boards.esp.chips import SpiRegisters
from fleetflash.lab.boards.esp.spi_flash import SpiFlash

USER_COMMAND = 1 << 18  # SPI_CMD: start; reads as zero when done
MOSI = 1 << 27  # SPI_USER: there is data to send

READ_ID = 0x9F
READ_STATUS = {0x05: 0, 0x35: 1, 0x15: 2}
WRITE_STATUS = {0x01: 0, 0x31: 1, 0x11: 2}
WRITE_ENABLE, WRITE_ENABLE_VOLATILE, WRITE_DISABLE = 0x06, 0x50, 0x04
NOTHING = 0xFFFF_FFFF


class SpiController:
    """Takes over the registers that start a transfer and hold its result; ``attached`` by SPI_ATTACH."""

    def __init__(self, layout: SpiRegisters, flash: SpiFlash, memory: dict[int, int]) -> None:
        self._layout = layout
        self._flash = flash
        self._memory = memory
        self._status = [0, 0, 0]
        self._write_enabled = False
        self.attached = False

    @property
    def command_register(self) -> int:
        return self._layout.base

    def start(self) -> None:
        """Run the command that the registers describe."""
        command = self._memory.get(self._layout.base + self._layout.user2, 0) & 0xFF
        sends = self._memory.get(self._layout.base + self._layout.user, 0) & MOSI
        data = self._layout.base + self._layout.data
        if not self.attached:
            self._memory[data] = NOTHING
        elif command == READ_ID:
            self._memory[data] = self._flash.jedec_id
        elif command in READ_STATUS:
            self._memory[data] = self._status[READ_STATUS[command]]
        elif command in WRITE_STATUS and self._write_enabled and sends:
            self._status[WRITE_STATUS[command]] = self._memory.get(data, 0) & 0xFF
            self._write_enabled = False
        elif command in (WRITE_ENABLE, WRITE_ENABLE_VOLATILE, WRITE_DISABLE):
            self._write_enabled = command != WRITE_DISABLE
        elif not sends:
            self._memory[data] = NOTHING
