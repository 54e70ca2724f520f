"""What a chip with secure boot would not start any more: told before anything is erased.

Sources: ESP-IDF guide, "Secure Boot V2" ("Signature Block Format": a sector of its own behind the image, which begins
with E7 and the version, 02) and "Secure Boot" (version 1 ties the bootloader to a key that only the chip knows).
"""

from typing import Callable

from fleetflash.agent.protocols.flash_parts import Part

#: Below this the first stages lie: the bootloader, and what version 1 of secure boot keeps of it.
FIRST_APPLICATION = 0x8000
SECTOR = 4096
IMAGE_MAGIC, SIGNATURE = b"\xe9", b"\xe7\x02"


def objection(part: Part, version: int, holds: Callable[[Part], bool]) -> str:
    """Say why a part must not be written to a chip with this version of secure boot; empty when it may be.

    ``holds``: whether the flash holds a part already, which harms nothing.
    """
    first_stages = Part(part.offset, part.data[: max(0, FIRST_APPLICATION - part.offset)])
    if first_stages.data and not holds(first_stages):
        return (
            f"secure boot (version {version}) is burnt into this chip, so what lies below {FIRST_APPLICATION:#x} must "
            f"stay as it is, and the part at {part.offset:#x} differs there; give an image without it"
        )
    application = not first_stages.data and part.data.startswith(IMAGE_MAGIC)
    if version == 2 and application and not _is_signed(part.data) and not holds(part):
        return (
            f"secure boot (version 2) is burnt into this chip, and the application at {part.offset:#x} has no "
            "signature, so it would not start; sign it with the chip's key"
        )
    return ""


def _is_signed(image: bytes) -> bool:
    return len(image) % SECTOR == 0 and image[-SECTOR:].startswith(SIGNATURE)
