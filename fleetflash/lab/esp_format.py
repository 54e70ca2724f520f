"""The image format of ESP chips: bootloaders and applications, packed and read.

Sources: "Firmware Image Format" (esptool documentation) for header, extended header, segments and footer; "App Image
Format" (ESP-IDF guide) for the application description at the start of the first segment, and
``esp_bootloader_desc.h`` (ESP-IDF) for the bootloader's. All integers are little-endian.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = 0xE9
HEADER = struct.Struct("<BBBBI")
EXTENDED = struct.Struct("<B3sHBHH4sB")
SEGMENT = struct.Struct("<II")
FIRST_DATA = HEADER.size + EXTENDED.size + SEGMENT.size  # 0x20
DIGEST_LENGTH = 32
MMU_PAGE = 0x10000
MOST_SEGMENTS = 16

DIO = 2
SIZE_CODES = {1 << 20: 0, 2 << 20: 1, 4 << 20: 2, 8 << 20: 3, 16 << 20: 4}
FREQUENCY_80M = 0xF
NO_WP_PIN = 0xEE

APP_MAGIC = 0xABCD5432
APP_DESCRIPTION = struct.Struct("<II8s32s32s16s16s32s32sHHB3s72s")
BOOTLOADER_MAGIC = 80
BOOTLOADER_DESCRIPTION = struct.Struct("<B2sBI32s24s16s")


class ImageError(Exception):
    """There is no image that a chip would start. ``reason`` is what its bootloader says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Segment:
    """``address``: where it is loaded or mapped; ``offset``: of its data in the image."""

    address: int
    data: bytes
    offset: int = 0


@dataclass(frozen=True)
class Image:
    chip_id: int
    entry: int
    mode: int
    frequency: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class AppDescription:
    version: str
    project: str
    time: str
    date: str
    idf_version: str
    elf_sha256: bytes

    def pack(self) -> bytes:
        """256 bytes; raises ValueError for a text that is too long."""
        texts = [
            text_field(text, size)
            for text, size in (
                (self.version, 32),
                (self.project, 32),
                (self.time, 16),
                (self.date, 16),
                (self.idf_version, 32),
            )
        ]
        page_power = MMU_PAGE.bit_length() - 1
        return APP_DESCRIPTION.pack(
            APP_MAGIC, 0, bytes(8), *texts, self.elf_sha256, 0, 99, page_power, bytes(3), bytes(72)
        )

    @classmethod
    def of(cls, image: Image) -> "AppDescription | None":
        """What an application says of itself, if it says anything."""
        data = image.segments[0].data
        if len(data) < APP_DESCRIPTION.size:
            return None
        magic, _, _, version, project, time, date, idf_version, sha256, *_ = APP_DESCRIPTION.unpack_from(data)
        if magic != APP_MAGIC:
            return None
        return cls(
            read_text(version), read_text(project), read_text(time), read_text(date), read_text(idf_version), sha256
        )


def bootloader_description(idf_version: str, date_time: str) -> bytes:
    """The 80 bytes at the start of a bootloader's first segment."""
    fields = text_field(idf_version, 32), text_field(date_time, 24)
    return BOOTLOADER_DESCRIPTION.pack(BOOTLOADER_MAGIC, bytes(2), 0, 1, *fields, bytes(16))


def text_field(text: str, size: int) -> bytes:
    """Zero-terminated; raises ValueError when it does not fit."""
    data = text.encode()
    if len(data) >= size:
        raise ValueError(f"{text!r} is too long: {size - 1} bytes fit")
    return data.ljust(size, b"\0")


def read_text(field: bytes) -> str:
    """What stands before the first zero."""
    return field.partition(b"\0")[0].decode(errors="replace")


def pack_image(chip_id: int, entry: int, segments: Sequence[tuple[int, bytes]], *, flash_size: int) -> bytes:
    """An image with checksum and SHA-256. Segments are (address, data); flash-mapped ones must be aligned already."""
    head = HEADER.pack(MAGIC, len(segments), DIO, SIZE_CODES[flash_size] << 4 | FREQUENCY_80M, entry)
    head += EXTENDED.pack(NO_WP_PIN, bytes(3), chip_id, 0, 0, 399, bytes(4), 1)
    body = bytearray(head)
    check = 0xEF
    for address, data in segments:
        padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
        body += SEGMENT.pack(address, len(padded)) + padded
        check ^= xor(padded)
    body += bytes(-(len(body) + 1) % 16) + bytes([check])
    return bytes(body) + hashlib.sha256(body).digest()


def read_image(data: bytes, place: int) -> Image:
    """The image at the start of ``data``; ``place`` is its flash offset, for the reasons. Raises ImageError."""
    if len(data) < FIRST_DATA or data[0] != MAGIC:
        raise ImageError(f"image at 0x{place:x} has invalid magic byte (nothing flashed here?)")
    _, count, mode, size_frequency, entry = HEADER.unpack_from(data)
    _, _, chip_id, _, _, _, _, digest_appended = EXTENDED.unpack_from(data, HEADER.size)
    if not 0 < count <= MOST_SEGMENTS:
        raise ImageError(f"image at 0x{place:x} segment count {count} exceeds max {MOST_SEGMENTS}")
    position, segments, check = HEADER.size + EXTENDED.size, [], 0xEF
    for number in range(count):
        address, length = SEGMENT.unpack_from(data.ljust(position + SEGMENT.size, b"\xff"), position)
        position += SEGMENT.size
        if position + length > len(data):
            raise ImageError(f"Segment {number} 0x{address:x}-0x{address + length:x} invalid: bad length")
        segments.append(Segment(address, data[position : position + length], position))
        check ^= xor(segments[-1].data)
        position += length
    position += -(position + 1) % 16
    if position + 1 + DIGEST_LENGTH * bool(digest_appended) > len(data):
        raise ImageError(f"image at 0x{place:x} is longer than its partition")
    if data[position] != check:
        raise ImageError(f"Checksum failed. Calculated 0x{check:x} read 0x{data[position]:x}")
    position += 1
    if digest_appended:
        digest = hashlib.sha256(data[:position]).digest()
        if digest != data[position : position + DIGEST_LENGTH]:
            raise ImageError("Image hash failed - image is corrupt")
    return Image(chip_id, entry, mode, size_frequency & 0x0F, tuple(segments))


def xor(data: bytes) -> int:
    """All bytes XORed; a word at a time, for a megabyte is a lot of bytes."""
    width = 8
    words = memoryview(data.ljust(-(-len(data) // width) * width, b"\0")).cast("Q")
    total = 0
    for word in words:
        total ^= word
    result = 0
    for place in range(width):
        result ^= total >> 8 * place & 0xFF
    return result
