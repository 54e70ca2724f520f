"""Intel hex files, as ``objcopy -O ihex`` and the AVR tools write them."""

from fleetflash.firmware.errors import ImageError, TruncatedImageError
from fleetflash.firmware.memory import Memory

_EXTENDED_SEGMENT, _EXTENDED_LINEAR, _END = "02", "04", "01"


def read_hex(text: str) -> Memory:
    """Return what an Intel hex file puts where; gaps are 0xFF, as in erased flash. Raises ``ImageError``."""
    records = [line.strip() for line in text.splitlines() if line.strip()]
    kinds = [record[7:9] for record in records]
    if _END not in kinds:
        raise TruncatedImageError(
            "this Intel hex file has no end record (:00000001FF): it is truncated, fetch it again"
        )
    if kinds.index(_END) != len(kinds) - 1:
        raise ImageError("this Intel hex file goes on after its end record; give one image, not several joined")
    if _EXTENDED_SEGMENT in kinds and _EXTENDED_LINEAR in kinds:
        # The library adds the two up, where the format says that the later one replaces the earlier.
        raise ImageError("this Intel hex file mixes segment (02) and linear (04) addresses; give the .bin or .elf")
    import bincopy  # not for every run: most register no firmware

    file = bincopy.BinFile()
    try:
        file.add_ihex(text)
    except (bincopy.Error, ValueError, IndexError) as error:
        raise ImageError(f"this Intel hex file is damaged ({error}); fetch it again") from None
    return Memory.join([(address, bytes(data)) for address, data in file.segments], fill=0xFF)
