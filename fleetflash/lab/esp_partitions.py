"""Partition table and OTA selection, packed and read.

Sources: "Partition Tables" (ESP-IDF guide), and for the binary form ``esp_flash_partitions.h`` and
``gen_esp32part.py``: 32 bytes an entry, AA 50 first; an EB EB entry with the MD5 of those before it; 0xC00 bytes in
all. "Over The Air Updates", section "OTA Data Partition": two copies of a sequence number with a CRC-32.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

TABLE_OFFSET = 0x8000
TABLE_LENGTH = 0xC00
ENTRY = struct.Struct("<2sBBII16sI")
ENTRY_MAGIC, MD5_MAGIC = b"\xaa\x50", b"\xeb\xeb"
END = b"\xff" * ENTRY.size

APP, DATA = 0, 1
FACTORY, OTA_0 = 0x00, 0x10
OTA_DATA, PHY, NVS, SPIFFS = 0x00, 0x01, 0x02, 0x82
MOST_OTA = 16

SELECT = struct.Struct("<I20sII")
SECTOR = 0x1000
NO_SEQUENCE = 0xFFFF_FFFF
STATE_INVALID, STATE_ABORTED, STATE_UNDEFINED = 3, 4, 0xFFFF_FFFF

#: What the bootloader calls a partition's use, by type and subtype.
USAGES = {(APP, FACTORY): "factory app", (DATA, OTA_DATA): "OTA data", (DATA, PHY): "RF data", (DATA, NVS): "WiFi data"}


class TableError(Exception):
    """There is no partition table that a bootloader would accept. The text is what it says."""


@dataclass(frozen=True)
class Partition:
    """``offset`` and ``size`` in bytes of flash."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int

    @property
    def ota_slot(self) -> int | None:
        """The number of an ``ota_<n>`` application."""
        slot = self.subtype - OTA_0
        return slot if self.type == APP and 0 <= slot < MOST_OTA else None

    @property
    def usage(self) -> str:
        return "OTA app" if self.ota_slot is not None else USAGES.get((self.type, self.subtype), "Unknown data")


def pack_table(partitions: Sequence[Partition]) -> bytes:
    """The table as it lies at 0x8000; raises ValueError for a label that is too long."""
    table = bytearray()
    for part in partitions:
        label = part.label.encode()
        if len(label) > 16:
            raise ValueError(f"partition label {part.label!r}: 16 bytes fit")
        table += ENTRY.pack(ENTRY_MAGIC, part.type, part.subtype, part.offset, part.size, label, 0)
    digest = hashlib.md5(table, usedforsecurity=False).digest()
    table += MD5_MAGIC + b"\xff" * 14 + digest
    return bytes(table.ljust(TABLE_LENGTH, b"\xff"))


def read_table(data: bytes) -> tuple[Partition, ...]:
    """The partitions of a table; raises TableError."""
    found: list[Partition] = []
    for place in range(0, TABLE_LENGTH, ENTRY.size):
        entry = data[place : place + ENTRY.size]
        if entry == END and found:
            return tuple(found)
        if entry[:2] == MD5_MAGIC:
            if hashlib.md5(data[:place], usedforsecurity=False).digest() != entry[16:]:
                raise TableError("MD5 checksum mismatch")
            continue
        if entry[:2] != ENTRY_MAGIC:
            raise TableError(f"partition {len(found)} invalid magic number 0x{int.from_bytes(entry[:2], 'little'):x}")
        _, kind, subtype, offset, size, label, _ = ENTRY.unpack(entry)
        found.append(Partition(label.partition(b"\0")[0].decode(errors="replace"), kind, subtype, offset, size))
    raise TableError("partition table has no terminating entry, not valid")


def pack_selection(slot: int | None, slots: int) -> bytes:
    """An otadata partition of two sectors that selects ``ota_<slot>``; None: nothing selected, both erased."""
    if slot is None:
        return b"\xff" * 2 * SECTOR
    if not 0 <= slot < slots:
        raise ValueError(f"ota_{slot}: there are only {slots} OTA partitions")
    sequence = slot + 1
    entry = SELECT.pack(sequence, b"\xff" * 20, STATE_UNDEFINED, sequence_crc(sequence))
    return entry.ljust(SECTOR, b"\xff") + b"\xff" * SECTOR


def read_selection(data: bytes, slots: int) -> int | None:
    """The OTA slot that an otadata partition selects: the higher sequence number that is valid."""
    sequences = []
    for place in (0, SECTOR):
        sequence, _, state, crc = SELECT.unpack_from(data, place)
        bad = state in (STATE_INVALID, STATE_ABORTED) or crc != sequence_crc(sequence)
        if sequence != NO_SEQUENCE and not bad:
            sequences.append(sequence)
    return (max(sequences) - 1) % slots if sequences and slots else None


def sequence_crc(sequence: int) -> int:
    """CRC-32 of the sequence number, started with all ones."""
    return zlib.crc32(struct.pack("<I", sequence), 0xFFFF_FFFF)
