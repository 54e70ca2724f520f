"""What an image looks like in flash: filled up to whole blocks, and what erased flash at its end is worth."""

from typing import Optional

#: An erased byte, in every flash here.
ERASED = b"\xff"


def filled(data: bytes, unit: int) -> bytes:
    """Return ``data`` filled up with erased bytes to a multiple of ``unit``."""
    return data + ERASED * (-len(data) % unit)


def trimmed(data: bytes, unit: int) -> bytes:
    """Return ``data`` without the erased blocks of ``unit`` bytes at its end.

    An application's length is written nowhere. What is left out of a backup is erased flash, and the blocks after an
    image are not the application's, so a backup that is written back is the application again.
    """
    return filled(data.rstrip(ERASED), unit)


def difference(found: bytes, expected: bytes) -> Optional[int]:
    """Return the index of the first byte that differs, or ``None``. A shorter ``found`` differs where it ends."""
    if found == expected:
        return None
    for index, (left, right) in enumerate(zip(found, expected)):
        if left != right:
            return index
    return min(len(found), len(expected))
