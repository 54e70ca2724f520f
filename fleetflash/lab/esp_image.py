"""Firmware for simulated ESP boards: whole flash layouts from a few parameters, valid for Espressif's own tools.

An application of the lab says what it will print: behind its description, at the start of the first segment, stands
``LABAPP1`` and a line feed, then lines of ``<milliseconds> <text>``, each printed so long after the one before it,
and a zero byte. Text that begins with ``?sd=yes `` is printed, without that, on boards with such equipment alone.

``python -m fleetflash.lab.esp_image esp32 v1.0.0 DIRECTORY`` writes the parts and the whole.
"""

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab.boards.esp.chips import CHIPS, EspChip
from fleetflash.lab.esp_format import (
    APP_DESCRIPTION,
    FIRST_DATA,
    MMU_PAGE,
    SEGMENT,
    AppDescription,
    Image,
    bootloader_description,
    pack_image,
)
from fleetflash.lab.esp_partitions import (
    APP,
    DATA,
    FACTORY,
    NVS,
    OTA_0,
    OTA_DATA,
    PHY,
    SPIFFS,
    TABLE_OFFSET,
    Partition,
    pack_selection,
    pack_table,
)

CONTRACT = b"LABAPP1\n"
IDF_VERSION = "v5.3.1"
COMPILED = ("12:00:00", "Jan  1 2026")
SMALLEST_APP = 0x12000
DROM_SIZE = 0x4000
FOOTER = 16 + 32  # checksum with its padding, and SHA-256
FLASH_SIZE = 4 << 20

#: (milliseconds after the line before, text)
AppLine = tuple[int, str]
DEFAULT_LINES: tuple[AppLine, ...] = (
    (20, "I (420) gateway: lab application"),
    (200, "I (620) wifi: connected"),
    (100, "I (720) gateway: ready"),
)

# "Factory app, two OTA definitions" of the ESP-IDF guide, "Partition Tables", and a filesystem in the rest of 4 MiB.
PARTITIONS = (
    Partition("nvs", DATA, NVS, 0x9000, 0x4000),
    Partition("otadata", DATA, OTA_DATA, 0xD000, 0x2000),
    Partition("phy_init", DATA, PHY, 0xF000, 0x1000),
    Partition("factory", APP, FACTORY, 0x10000, 0x100000),
    Partition("ota_0", APP, OTA_0, 0x110000, 0x100000),
    Partition("ota_1", APP, OTA_0 + 1, 0x210000, 0x100000),
    Partition("storage", DATA, SPIFFS, 0x310000, 0xF0000),
)


@dataclass(frozen=True)
class Layout:
    """What goes where: flash offset to content, in order."""

    chip: EspChip
    parts: Mapping[int, bytes]

    def merge(self) -> bytes:
        """One image from offset 0 on, gaps erased."""
        merged = bytearray()
        for offset, content in sorted(self.parts.items()):
            merged += b"\xff" * (offset - len(merged)) + content
        return bytes(merged)


def build_app(
    kind: str,
    version: str,
    *,
    project: str = "gateway",
    lines: Sequence[AppLine] = DEFAULT_LINES,
    size: int = 0x30000,
    seed: int = 0,
    flash_size: int = FLASH_SIZE,
) -> bytes:
    """An application of about ``size`` bytes; equal arguments give equal bytes. Raises ValueError.

    Its segments: constants and instructions mapped from flash, each at an offset that fits the 64 KiB pages of the
    MMU, with code that is loaded to RAM between them.
    """
    if size < SMALLEST_APP:
        raise ValueError(f"an application has at least {SMALLEST_APP} bytes, not {size}")
    chip = chip_of(kind)
    source = f"{kind}\0{version}\0{project}\0{seed}"
    text = "".join(f"{milliseconds} {line}\n" for milliseconds, line in lines)
    elf_sha256 = hashlib.sha256(source.encode()).digest()
    description = AppDescription(version, project, *COMPILED, IDF_VERSION, elf_sha256).pack()
    constants = description + CONTRACT + text.encode() + b"\0"
    if len(constants) > DROM_SIZE:
        raise ValueError(
            f"the lines take {len(text)} bytes; {DROM_SIZE - APP_DESCRIPTION.size - len(CONTRACT) - 1} fit"
        )
    constants += code(source + "constants", DROM_SIZE - len(constants))
    # The mapped instructions start at the same place of a page as the constants do.
    loaded = MMU_PAGE + FIRST_DATA - SEGMENT.size - (FIRST_DATA + DROM_SIZE + SEGMENT.size)
    mapped = size - (MMU_PAGE + FIRST_DATA) - FOOTER
    segments = [
        (chip.drom + FIRST_DATA, constants),
        (chip.app_iram, code(source + "loaded", loaded)),
        (chip.irom + FIRST_DATA, code(source + "mapped", mapped)),
    ]
    return pack_image(chip.image_id, chip.app_iram, segments, flash_size=flash_size)


def build_bootloader(kind: str, *, seed: int = 0, flash_size: int = FLASH_SIZE) -> bytes:
    """What stands for ESP-IDF's second-stage bootloader."""
    chip = chip_of(kind)
    time, date = COMPILED
    data = bootloader_description(IDF_VERSION, f"{date} {time}") + code(f"{kind}\0{seed}data", 0x1000)
    segments = [(chip.bootloader_dram, data), (chip.bootloader_iram, code(f"{kind}\0{seed}code", 0x3C00))]
    return pack_image(chip.image_id, chip.bootloader_iram, segments, flash_size=flash_size)


def build_filesystem(files: Mapping[str, bytes], size: int) -> bytes:
    """What stands for a filesystem: a table of names and lengths, then the contents. Raises ValueError."""
    head = "".join(f"{name} {len(content)}\n" for name, content in files.items())
    data = b"LABFS1\n" + head.encode() + b"\0" + b"".join(files.values())
    if len(data) > size:
        raise ValueError(f"the files take {len(data)} bytes; the partition has {size}")
    return data.ljust(size, b"\xff")


def build_layout(
    kind: str,
    apps: Mapping[str, bytes],
    *,
    slot: int | None = None,
    files: Mapping[str, bytes] | None = None,
    partitions: Sequence[Partition] = PARTITIONS,
    flash_size: int = FLASH_SIZE,
) -> Layout:
    """A complete layout: ``apps`` by partition label, ``slot`` the OTA slot that otadata selects. Raises ValueError."""
    chip = chip_of(kind)
    by_label = {part.label: part for part in partitions}
    parts = {
        chip.bootloader_offset: build_bootloader(kind, flash_size=flash_size),
        TABLE_OFFSET: pack_table(partitions),
    }
    slots = sum(part.ota_slot is not None for part in partitions)
    for part in partitions:
        if (part.type, part.subtype) == (DATA, OTA_DATA):
            parts[part.offset] = pack_selection(slot, slots)
        if part.subtype == SPIFFS and part.type == DATA and files is not None:
            parts[part.offset] = build_filesystem(files, part.size)
    for label, app in apps.items():
        if label not in by_label:
            raise ValueError(f"no partition {label!r}; there are {', '.join(by_label)}")
        if len(app) > by_label[label].size:
            raise ValueError(f"{label}: an application of {len(app)} bytes; the partition has {by_label[label].size}")
        parts[by_label[label].offset] = app
    return Layout(chip, dict(sorted(parts.items())))


def write_build(directory: Path, layout: Layout) -> Path:
    """Write what ESP-IDF leaves for those who flash, and return its ``flasher_args.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {}
    for offset, content in layout.parts.items():
        files[hex(offset)] = f"0x{offset:06x}.bin"
        (directory / files[hex(offset)]).write_bytes(content)
    described = directory / "flasher_args.json"
    described.write_text(json.dumps({"flash_files": files, "extra_esptool_args": {"chip": layout.chip.kind}}))
    return described


def factory_flash(kind: str, version: str) -> bytes:
    """The whole flash of a gateway as it leaves the factory."""
    return build_layout(kind, {"factory": build_app(kind, version)}, files={}).merge()


def app_lines(image: Image) -> list[AppLine]:
    """What a lab's application prints; nothing for others."""
    data = image.segments[0].data[APP_DESCRIPTION.size :]
    if not data.startswith(CONTRACT):
        return []
    found = []
    for line in data[len(CONTRACT) :].partition(b"\0")[0].decode(errors="replace").splitlines():
        milliseconds, _, text = line.partition(" ")
        found.append((int(milliseconds) if milliseconds.isdecimal() else 0, text))
    return found


def chip_of(kind: str) -> EspChip:
    """Raises ValueError."""
    if kind not in CHIPS:
        raise ValueError(f"unknown chip {kind!r}; known: {', '.join(CHIPS)}")
    return CHIPS[kind]


def code(source: str, length: int) -> bytes:
    """Bytes that stand for code: always the same for the same source, and about as compressible."""
    generator = random.Random(int.from_bytes(hashlib.sha256(source.encode()).digest(), "big"))
    result = bytearray()
    while len(result) < length:
        result += generator.randbytes(640)
        result += generator.randbytes(4) * 96
    return bytes(result[:length])


def main(argv: list[str] | None = None) -> int:
    """Write bootloader, partition table, otadata, application and the whole into a directory, as of a build."""
    parser = argparse.ArgumentParser(prog="python -m fleetflash.lab.esp_image", description=main.__doc__)
    parser.add_argument("kind", choices=CHIPS)
    parser.add_argument("version")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--project", default="gateway")
    parser.add_argument("--size", type=lambda text: int(text, 0), default=0x30000, help="of the application, in bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="factory", help="partition of the application (default: %(default)s)")
    parser.add_argument("--slot", type=int, help="OTA slot that otadata selects")
    arguments = parser.parse_args(argv)
    try:
        app = build_app(
            arguments.kind, arguments.version, project=arguments.project, size=arguments.size, seed=arguments.seed
        )
        layout = build_layout(arguments.kind, {arguments.label: app}, slot=arguments.slot)
        write_build(arguments.directory, layout)
        (arguments.directory / "merged.bin").write_bytes(layout.merge())
    except (ValueError, OSError) as error:
        print(f"{arguments.directory}: {error}", file=sys.stderr)
        return 1
    for offset, content in layout.parts.items():
        print(f"0x{offset:06x}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
