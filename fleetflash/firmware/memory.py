"""A run of bytes at an address, joined from the blocks of an image file."""

from dataclasses import dataclass

from fleetflash.firmware.errors import ImageError

# More than any flash here; a stray block at a far address (fuses, RAM) must not fill this machine's memory.
MAX_SPAN = 32 * 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """``data`` as it lies in memory from ``base_address`` on."""

    base_address: int
    data: bytes

    @classmethod
    def join(cls, blocks: list[tuple[int, bytes]], fill: int) -> "Memory":
        """Join (address, bytes) blocks in any order, gaps filled with the byte ``fill``.

        Raises ``ImageError`` when there are none, they overlap, or they lie too far apart.
        """
        blocks = sorted((address, data) for address, data in blocks if data)
        if not blocks:
            raise ImageError("this file holds no bytes for flash; give the image that the build wrote")
        base, end = blocks[0][0], max(address + len(data) for address, data in blocks)
        if end - base > MAX_SPAN:
            raise ImageError(
                f"this file spreads from {base:#x} to {end:#x}, more than any flash here "
                f"({MAX_SPAN >> 20} MiB); give an image for flash alone, without fuses or RAM"
            )
        joined = bytearray([fill]) * (end - base)
        taken_until = base
        for address, data in blocks:
            if address < taken_until:
                raise ImageError(f"two parts of this file claim address {address:#x}; build it again")
            joined[address - base : address - base + len(data)] = data
            taken_until = address + len(data)
        return cls(base, bytes(joined))
