"""RAM download: MEM_BEGIN … MEM_DATA … MEM_END ("Serial Protocol", "Writing Data"), and what starts at its end.

A stub loader is not executed here. It is taken for one when the entry point lies in code that was downloaded
completely to instruction RAM.
"""

from fleetflash.lab.boards.esp.chips import EspChip


class RamError(Exception):
    """MEM_DATA without MEM_BEGIN, or more than was announced."""


class Ram:
    """The segments downloaded since the reset."""

    def __init__(self, chip: EspChip) -> None:
        self._chip = chip
        self._segments: list[tuple[int, bytearray, int]] = []

    def begin(self, size: int, address: int) -> None:
        self._segments.append((address, bytearray(), size))

    def data(self, payload: bytes) -> None:
        """Raises RamError."""
        if not self._segments:
            raise RamError("no MEM_BEGIN")
        _, content, size = self._segments[-1]
        if len(content) + len(payload) > size:
            raise RamError(f"more than {size} bytes")
        content += payload

    def starts_stub(self, entry: int) -> bool:
        """Whether a stub runs when the chip jumps to ``entry``."""
        return entry in self._chip.iram and any(
            address <= entry < address + size and len(content) == size for address, content, size in self._segments
        )
