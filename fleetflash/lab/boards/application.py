"""The application in a flash, looked for again whenever the flash has changed."""

from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.image import Firmware, read_firmware


class Application:
    """What would run from ``offset`` on, which the CPU sees at the address ``base``.

    ``base`` is checked against the vector table of a Cortex-M image; None for chips whose images don't say it.
    """

    def __init__(self, flash: CodeFlash, offset: int = 0, base: int | None = None, end: int | None = None) -> None:
        self._flash = flash
        self._offset = offset
        self._length = (flash.size if end is None else end) - offset
        self._base = base
        self._generation = -1
        self._firmware: Firmware | None = None

    def firmware(self) -> Firmware | None:
        """The firmware, if it would run."""
        if self._generation != self._flash.generation:
            self._generation = self._flash.generation
            self._firmware = read_firmware(self._flash.read(self._offset, self._length), self._base)
        return self._firmware
