"""What an ESP-IDF build must have made: an artifact for the chip, its ELF file and map, all of one and the same build.

Sources: ESP-IDF guide, "Build System" (``flasher_args.json``; ``project_description.json`` with ``app_elf`` and
``target``) and "App Image Format" (``app_elf_sha256`` of ``esp_app_desc_t``: the SHA-256 of the ELF file).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_idf_defs import ImageMetadata, PartitionTable

from fleetflash.build.errors import OutputError
from fleetflash.build.idf.gateway_build import ELF, MAP
from fleetflash.firmware.chips import Chip
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.esp import FLASHER_ARGS, Layout, read_layout
from fleetflash.firmware.esp_partitions import TABLE_OFFSET

DESCRIPTION = "project_description.json"
IMAGE_MAGIC = b"\xe9"


@dataclass(frozen=True)
class Output:
    """``files``: name → content, with a ``flasher_args.json`` for them as they are named here.

    ``app_bytes`` of ``app_room``: the size of the application and of its partition.
    """

    version: str
    idf_version: str
    elf_sha256: str
    app_bytes: int
    app_room: int
    files: dict[str, bytes]


def read_output(build: Path, chip: Chip, idf_version: str) -> Output:
    """Read and check a build directory; raises ``OutputError`` that says what is wrong with which file.

    + idf_version: as ``idf.py --version`` says it
    """
    try:
        layout = read_layout(build / FLASHER_ARGS, chip)
    except FirmwareError as error:
        raise OutputError(str(error)) from None
    application = layout.application
    if application is None:
        raise OutputError(f"{FLASHER_ARGS} names no application with a description; is esp_app_format in the project?")
    version = str(application.version)
    if version.endswith("-dirty"):
        raise OutputError(f"the application says version {version!r}; does the build change its own source?")
    if application.idf_version != idf_version:
        raise OutputError(
            f"the application was built with ESP-IDF {application.idf_version!r}, expected {idf_version!r}"
        )
    elf, elf_map = _debugging(build, chip)
    elf_sha256 = hashlib.sha256(elf).hexdigest()
    if application.elf_sha256.hex() != elf_sha256:
        raise OutputError(
            f"the application names ELF file {application.elf_sha256.hex()[:12]}, the build has {elf_sha256[:12]}; "
            "panics could not be decoded: does the build change its images afterwards?"
        )
    app_bytes, app_room = _application(layout)
    files = {piece.name: piece.part.data for piece in layout.pieces}
    places = {hex(piece.part.offset): piece.name for piece in layout.pieces}
    said = {"flash_files": places, "extra_esptool_args": {"chip": chip.name}}
    files |= {ELF: elf, MAP: elf_map, FLASHER_ARGS: json.dumps(said, indent=2).encode() + b"\n"}
    return Output(version, idf_version, elf_sha256, app_bytes, app_room, files)


def _debugging(build: Path, chip: Chip) -> tuple[bytes, bytes]:
    try:
        said: Any = json.loads((build / DESCRIPTION).read_bytes())
        name, target = str(said["app_elf"]), str(said["target"])
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(
            f"build/{DESCRIPTION} does not tell app_elf and target; is this an ESP-IDF 5 build?"
        ) from None
    if target != chip.name:
        raise OutputError(
            f"build/{DESCRIPTION} says target {target}, expected {chip.name}; does the project set its own?"
        )
    paths = [build / name, (build / name).with_suffix(".map")]
    try:
        elf, elf_map = (path.read_bytes() for path in paths)
    except OSError as error:
        raise OutputError(
            f"build/{Path(error.filename).name}: {error.strerror}; it is needed to decode panics"
        ) from None
    return elf, elf_map


def _application(layout: Layout) -> tuple[int, int]:
    """Return the size of the application in bytes, and that of its partition (its own, where there is no table)."""
    by_offset = {piece.part.offset: piece.part.data for piece in layout.pieces}
    table = PartitionTable.from_binary(by_offset[TABLE_OFFSET]) if TABLE_OFFSET in by_offset else []
    for offset, data in by_offset.items():
        if data[:1] == IMAGE_MAGIC and ImageMetadata.from_bytes(data).app_description is not None:
            room = next((part.size for part in table if part.offset == offset), len(data))
            return len(data), int(room)
    raise OutputError(f"{FLASHER_ARGS}: the application does not begin where its partition does; correct its offset")
