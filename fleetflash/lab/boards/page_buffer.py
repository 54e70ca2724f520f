"""The RAM page in which the bootloader collects chunks: flash is programmed in whole pages."""

from fleetflash.lab.boards.flash import PAGE, CodeFlash, FlashError, OptionBytes


class PageBuffer:
    """Chunks in, pages out. Bytes that never reached ``flush`` or the end of a page die with the RAM."""

    def __init__(self, flash: CodeFlash, options: OptionBytes) -> None:
        self._flash = flash
        self._options = options
        self._page = bytearray()
        self._address = 0

    def clear(self) -> None:
        self._page.clear()

    def store(self, address: int, data: bytes) -> int:
        """Add a chunk; full pages go to flash. The number of pages written; raises FlashError."""
        if self._options.write_protected(address, len(data)):
            raise FlashError(f"0x{address:06x} is write-protected")
        if self._page and address != self._address + len(self._page):
            raise FlashError(f"0x{address:06x} does not continue 0x{self._address + len(self._page):06x}")
        if not self._page:
            self._address = address
        pages = 0
        for value in data:
            self._page.append(value)
            if (self._address + len(self._page)) % PAGE == 0:
                pages += self.flush()
        return pages

    def flush(self) -> int:
        """Write what is buffered; the number of pages written. Raises FlashError."""
        if not self._page:
            return 0
        data, address = bytes(self._page), self._address
        self._page.clear()
        self._address = address + len(data)
        self._flash.program(address, data)
        return 1
