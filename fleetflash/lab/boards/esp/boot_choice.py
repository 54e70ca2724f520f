"""Which application the second-stage bootloader starts: partition table, otadata, and what is valid.

Source: ESP-IDF guide, "Bootloader" (section "Fall Back") and "Over The Air Updates" (section "OTA Data Partition").
Rollback of unconfirmed applications is off, as it is by default.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetflash.lab.boards.esp.chips import EspChip
from fleetflash.lab.esp_format import Image, ImageError, read_image
from fleetflash.lab.esp_partitions import (
    APP,
    DATA,
    FACTORY,
    OTA_DATA,
    SECTOR,
    TABLE_LENGTH,
    TABLE_OFFSET,
    Partition,
    read_selection,
    read_table,
)

#: ``read(address, length)`` of the flash.
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Choice:
    """``rejected``: partitions that were tried in vain, and why; ``selected`` is None without a selection."""

    partitions: tuple[Partition, ...]
    selected: int | None
    rejected: tuple[tuple[Partition, str], ...]
    partition: Partition | None
    image: Image | None


def choose(chip: EspChip, read: Read) -> Choice:
    """Raises TableError when there is no partition table."""
    partitions = read_table(read(TABLE_OFFSET, TABLE_LENGTH))
    slots = sum(part.ota_slot is not None for part in partitions)
    data = next((part for part in partitions if (part.type, part.subtype) == (DATA, OTA_DATA)), None)
    selected = read_selection(read(data.offset, 2 * SECTOR), slots) if data else None
    rejected = []
    for part in order(partitions, selected):
        try:
            image = read_image(read(part.offset, part.size), part.offset)
            if image.chip_id != chip.image_id:
                raise ImageError(f"mismatch chip ID, expected {chip.image_id}, found {image.chip_id}")
        except ImageError as error:
            rejected.append((part, error.reason))
        else:
            return Choice(partitions, selected, tuple(rejected), part, image)
    return Choice(partitions, selected, tuple(rejected), None, None)


def order(partitions: Sequence[Partition], selected: int | None) -> list[Partition]:
    """What is tried in turn: the selected slot, those below it down to the factory application, those above it."""
    slots = sorted((part for part in partitions if part.ota_slot is not None), key=lambda part: part.subtype)
    factory = [part for part in partitions if (part.type, part.subtype) == (APP, FACTORY)]
    if selected is None:
        return [*factory, *slots]
    return [*reversed(slots[: selected + 1]), *factory, *slots[selected + 1 :]]
