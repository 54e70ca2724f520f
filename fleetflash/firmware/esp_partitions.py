"""The partitions that an image of an ESP chip brings with it, and which of them hold nothing but stored data.

Source: ESP-IDF guide, "Partition Tables" (types and subtypes; where the default has the table).
"""

from esp_idf_defs import PartitionDefinition, PartitionTable
from esp_idf_defs.partitions import InputError

from fleetflash.agent.protocols.flash_parts import Part, PartsError, unpack
from fleetflash.firmware.errors import ImageError
from fleetflash.firmware.partition import Partition

TABLE_OFFSET, TABLE_BYTES, TABLE_MAGIC = 0x8000, 0xC00, b"\xaa\x50"
APP_TYPE, DATA_TYPE = 0x00, 0x01
#: Types of the system's own partitions; those of a project begin at 0x40.
_SYSTEM = {APP_TYPE: "an application", 0x02: "the bootloader", 0x03: "the partition table"}
_PROJECT_TYPES = 0x40
#: Subtype of data that says which application starts.
_OTADATA = 0x00


def read_table(data: bytes, where: str) -> "list[PartitionDefinition]":
    """Return the partitions of a table, none when ``data`` is none; raises ``ImageError`` that names ``where``."""
    if not data.startswith(TABLE_MAGIC):
        return []
    try:
        table = PartitionTable.from_binary(data)
        table.verify()
    except (InputError, ValueError) as error:
        raise ImageError(f"{where}: the partition table at {TABLE_OFFSET:#x}: {error}; build it again") from None
    return list(table)


def table_bytes(parts: list[Part]) -> bytes:
    """Return what the pieces of a flash have where ESP-IDF's default has its table; empty when nothing."""
    for part in parts:
        if part.offset <= TABLE_OFFSET < part.end:
            start = TABLE_OFFSET - part.offset
            return part.data[start : start + TABLE_BYTES]
    return b""


def read_partitions(packed: bytes, where: str) -> list[Partition]:
    """Return the partitions of an image (``flash_parts``), none when it has no table; raises ``ImageError``."""
    try:
        data = table_bytes(unpack(packed))
    except PartsError as error:
        raise ImageError(f"{where}: {error}") from None
    return [Partition(found.name, found.offset, found.size, _holds(found)) for found in read_table(data, where)]


def _holds(partition: PartitionDefinition) -> str:
    if partition.type == DATA_TYPE:
        return "what says which application starts" if partition.subtype == _OTADATA else ""
    if partition.type >= _PROJECT_TYPES:
        return ""
    return _SYSTEM.get(partition.type, "what belongs to the system")
