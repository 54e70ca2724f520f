"""Firmware of ESP chips: what an ESP-IDF build says that it wrote, as one artifact with a file for each part of flash.

Sources: ESP-IDF guide, "Build System" (``flasher_args.json``), "Partition Tables", "Application Image Format" (header,
``esp_app_desc_t``); the structures are read by ``esp-idf-defs``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from esp_idf_defs import AppDescription, ImageMetadata, PartitionDefinition

from fleetflash.agent.protocols.flash_parts import Part, PartsError, pack
from fleetflash.firmware.artifact import Artifact, EspFacts, make_artifact
from fleetflash.firmware.chips import Chip
from fleetflash.firmware.errors import ArtifactError, ImageError, ImageSizeError, WrongChipError
from fleetflash.firmware.esp_partitions import APP_TYPE, DATA_TYPE, TABLE_OFFSET, read_table, table_bytes
from fleetflash.firmware.versions import check_pin

#: What ESP-IDF leaves in its build directory for those who flash.
FLASHER_ARGS = "flasher_args.json"
#: Subtypes of data partitions that hold what a firmware stores (nvs, nvs_keys), and those that belong to the system
#: (ota, phy, coredump, efuse).
_STORED, _SYSTEM = frozenset({0x02, 0x04}), frozenset({0x00, 0x01, 0x03, 0x05})
_IMAGE_MAGIC = 0xE9


@dataclass(frozen=True)
class Piece:
    """A file of a layout: ``name`` as in the artifact."""

    name: str
    part: Part


@dataclass(frozen=True)
class Layout:
    """What goes where in a flash. ``application`` is what the first application in it says of itself, if one does.

    ``settings``, ``filesystems``: the NVS and the other data partitions that the pieces reach into, by name.
    """

    pieces: tuple[Piece, ...]
    application: AppDescription | None
    flash_bytes: int
    settings: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What the application will say that it is; empty when it says nothing."""
        return str(self.application.version) if self.application else ""

    def packed(self) -> bytes:
        """Return the archive that a programmer takes."""
        return pack(piece.part for piece in self.pieces)


def read_layout(path: Path, chip: Chip, offset: int | None = None) -> Layout:
    """Read a build's ``flasher_args.json`` with its files, or one image file, and check that it is for ``chip``.

    + offset: where one image file belongs in the flash, in bytes (default 0)

    Raises ``ImageError``, ``WrongChipError``, ``ImageSizeError`` or ``ArtifactError``, naming the file.
    """
    if path.suffix == ".json":
        if offset is not None:
            raise ArtifactError(f"{path}: it says itself where its files belong; leave the offset {offset:#x} out")
        pieces = _read_build(path, chip)
    else:
        pieces = [Piece("firmware.bin", Part(offset or 0, _read(path)))]
    table = read_table(table_bytes([piece.part for piece in pieces]), str(path))
    application = _application(pieces, table, chip, path)
    if application is None and table is None and path.suffix != ".json":
        raise ImageError(f"{path}: neither application nor partition table is in it; give the build's {FLASHER_ARGS}")
    _check_places(pieces, table, path)
    end = max(piece.part.end for piece in pieces)
    flash_bytes = max([end, *(part.offset + part.size for part in table)]) if table else end
    reached = [
        partition
        for partition in table
        if partition.type == DATA_TYPE and any(_overlap(piece.part, partition) for piece in pieces)
    ]
    settings = tuple(partition.name for partition in reached if partition.subtype in _STORED)
    others = tuple(partition.name for partition in reached if partition.subtype not in _STORED | _SYSTEM)
    layout = Layout(tuple(pieces), application, flash_bytes, settings, others)
    try:
        layout.packed()
    except PartsError as error:
        raise ImageError(f"{path}: {error}") from None
    return layout


def describe_layout(
    path: Path,
    chip: Chip,
    *,
    name: str,
    version: str | None = None,
    label: str | None = None,
    offset: int | None = None,
    build: Mapping[str, str | int | bool] | None = None,
) -> tuple[Artifact, dict[str, bytes]]:
    """Return the artifact that a layout makes, and its files; raises as ``read_layout``.

    + version: needed where no application tells one; must agree where one does
    """
    layout = read_layout(path, chip, offset)
    application = layout.application
    artifact = make_artifact(
        kind="esp",
        name=name,
        version=_version(layout.version, version, path),
        chip=chip.name,
        files=tuple(
            {
                "name": piece.name,
                "offset": piece.part.offset,
                "size": len(piece.part.data),
                "sha256": hashlib.sha256(piece.part.data).hexdigest(),
            }
            for piece in layout.pieces
        ),
        esp=EspFacts(
            project=application.project_name if application else "",
            version=layout.version,
            idf_version=application.idf_version if application else "",
            elf_sha256=application.elf_sha256.hex() if application else "",
            packed_sha256=hashlib.sha256(layout.packed()).hexdigest(),
            flash_bytes=layout.flash_bytes,
            settings=layout.settings,
            filesystems=layout.filesystems,
        ),
        build=dict(build or {}),
        labels=(label,) if label is not None else (),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    return artifact, {piece.name: piece.part.data for piece in layout.pieces}


def _read_build(path: Path, chip: Chip) -> list[Piece]:
    try:
        said: Any = json.loads(_read(path))
        files = {int(offset, 0): str(file) for offset, file in said["flash_files"].items()}
        target = said.get("extra_esptool_args", {}).get("chip", chip.name)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ImageError(f"{path}: not the {FLASHER_ARGS} of an ESP-IDF build; give that") from None
    if target != chip.name:
        raise WrongChipError(f"{path}: built for {target}, but the chip is {chip.name}; build it for this chip")
    pieces: list[Piece] = []
    for offset, file in sorted(files.items()):
        file_name = Path(file).name
        taken = any(piece.name == file_name for piece in pieces)
        pieces.append(Piece(f"{offset:x}-{file_name}" if taken else file_name, Part(offset, _read(path.parent / file))))
    if not pieces:
        raise ImageError(f"{path}: it names no file to flash; build the project first")
    return pieces


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}; build the project, or give a readable file") from None
    if not content:
        raise ImageError(f"{path}: the file is empty; build or fetch it again")
    return content


def _at(pieces: list[Piece], offset: int, size: int) -> bytes:
    """Return what lies in the flash at ``offset``, as far as one piece has it."""
    for piece in pieces:
        if piece.part.offset <= offset < piece.part.end:
            start = offset - piece.part.offset
            return piece.part.data[start : start + size]
    return b""


def _overlap(part: Part, partition: PartitionDefinition) -> bool:
    return bool(part.offset < partition.offset + partition.size and partition.offset < part.end)


def _application(
    pieces: list[Piece], table: "list[PartitionDefinition]", chip: Chip, path: Path
) -> AppDescription | None:
    """Return what the first application says of itself, every image's chip checked."""
    places = [piece.part.offset for piece in pieces]
    places += [part.offset for part in table if part.type == APP_TYPE]
    found = None
    for offset in sorted(set(places)):
        data = _at(pieces, offset, chip.flash_bytes)
        if data[:1] != bytes([_IMAGE_MAGIC]):
            continue
        try:
            image = ImageMetadata.from_bytes(data)
        except ValueError as error:
            raise ImageError(f"{path}: the image at {offset:#x} is damaged: {error}; build it again") from None
        if image.header.chip_id.chip_name != chip.name:
            raise WrongChipError(
                f"{path}: the image at {offset:#x} was built for {image.header.chip_id.chip_name}, but the chip is "
                f"{chip.name}; build it for this chip"
            )
        if image.app_description is not None and offset < TABLE_OFFSET:
            raise ImageError(
                f"{path}: an application, which does not belong at {offset:#x}; give the build's {FLASHER_ARGS}, or "
                "say with --offset where its partition begins"
            )
        found = found or image.app_description
    return found


def _check_places(pieces: list[Piece], table: "list[PartitionDefinition]", path: Path) -> None:
    """Raise ``ImageSizeError`` for a part that reaches over the end of its partition."""
    if len(pieces) == 1 and pieces[0].part.offset < TABLE_OFFSET:
        return  # the whole flash as one file
    for piece in pieces:
        for partition in table:
            end = partition.offset + partition.size
            if partition.offset <= piece.part.offset < end < piece.part.end:
                raise ImageSizeError(
                    f"{path}: {piece.name} has {len(piece.part.data)} bytes, partition {partition.name} at "
                    f"{partition.offset:#x} {partition.size}; make it smaller, or the partition larger"
                )


def _version(told: str, given: str | None, path: Path) -> str:
    version = check_pin(given) if given is not None else None
    if not told:
        if version is None:
            raise ArtifactError(f"{path}: no application in it tells a version; give it with --version")
        return version
    if version is not None and version != told:
        raise ArtifactError(f"{path}: its application says {told!r}, not {version!r}; leave --version out")
    return told
