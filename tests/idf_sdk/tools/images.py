"""What a build writes: ELF files, the images that esptool makes of them, partition table, otadata, filesystem."""

import hashlib
import json
import random
import struct
import sys
from pathlib import Path
from typing import Any

from esp_idf_defs import PartitionTable
from esptool.cmds import elf2image

#: target → (ELF machine, flash-mapped data, flash-mapped code, RAM for code, bootloader's offset in flash)
CHIPS = {
    "esp32": (94, 0x3F400020, 0x400D0020, 0x40080000, 0x1000),
    "esp32s3": (94, 0x3C000020, 0x42010020, 0x40374000, 0x0),
    "esp32c3": (243, 0x3C000020, 0x42010020, 0x40380000, 0x0),
}
TABLE_OFFSET = 0x8000
APP_DESCRIPTION = struct.Struct("<II8s32s32s16s16s32s32s20I")
APP_MAGIC = 0xABCD5432
#: Of the ELF file's SHA-256 in an application's image (ESP-IDF guide, "App Image Format").
ELF_SHA256_OFFSET = 0xB0
PROGBITS, ALLOC, EXECUTABLE = 1, 2, 4


def build(project: Any) -> None:
    output, target = project.output, project.target
    version, idf_version = project.version(), (Path(__file__).parents[1] / "version.txt").read_text().strip()
    machine, data, code, ram, bootloader_offset = CHIPS[target]
    configuration = project.configuration()
    texts = "".join(f"{name}={value}\0" for name, value in sorted(configuration.items()) if isinstance(value, str))
    seed = json.dumps([version, target, configuration], sort_keys=True) + source_of(project.path)
    description = describe(version, project.name, idf_version)
    boot = b"LABAPP1\n" + (project.path / "main/boot.txt").read_bytes() + b"\0"
    # What assertions name as __FILE__; the reproducible build maps it to nothing.
    place = b"" if configuration.get("APP_REPRODUCIBLE_BUILD") else f"{project.path}/main/app_main.c".encode() + b"\0"
    constants = boot + place + texts.encode() + filler(seed + "constants", 0x2000)
    elf = output / f"{project.name}.elf"
    sections = {
        ".flash.appdesc": (data, ALLOC, description),
        ".flash.rodata": (data + len(description), ALLOC, constants),
        ".iram0.text": (ram, ALLOC | EXECUTABLE, filler(seed + "ram", 0x1000)),
        ".flash.text": (code, ALLOC | EXECUTABLE, filler(seed + "code", 0x6000)),
    }
    write_elf(elf, machine, ram, sections)
    elf.with_suffix(".map").write_text("".join(f"{name:20} {at:#010x} {len(content):#x}\n" for name, (at, _, content)
                                               in sections.items()))  # fmt: skip
    settings = flash_settings(configuration)
    application = elf.with_suffix(".bin")
    image(elf, application, target, settings, elf_sha256_offset=ELF_SHA256_OFFSET)
    bootloader = output / "bootloader/bootloader.elf"
    bootloader.parent.mkdir(exist_ok=True)
    write_elf(bootloader, machine, ram, {".iram.text": (ram, ALLOC | EXECUTABLE, filler(idf_version, 0x2000))})
    image(bootloader, bootloader.with_suffix(".bin"), target, settings)
    table = PartitionTable.from_csv((project.path / str(configuration["PARTITION_TABLE_CUSTOM_FILENAME"])).read_text())
    table.verify()
    (output / "partition_table").mkdir(exist_ok=True)
    (output / "partition_table/partition-table.bin").write_bytes(table.to_binary())
    (output / "ota_data_initial.bin").write_bytes(b"\xff" * 0x2000)
    places = {part.name: part for part in table}
    if application.stat().st_size > places["ota_0"].size:
        sys.exit(f"error: app partition is too small for binary {application.name}")
    files = {bootloader_offset: "bootloader/bootloader.bin", TABLE_OFFSET: "partition_table/partition-table.bin"}
    files |= {places["otadata"].offset: "ota_data_initial.bin", places["ota_0"].offset: application.name}
    if "storage" in places:
        web = b"".join(path.read_bytes() for path in sorted((project.path / "web").iterdir()))
        (output / "storage.bin").write_bytes(web.ljust(places["storage"].size, b"\xff"))
        files[places["storage"].offset] = "storage.bin"
    write_descriptions(project, version, idf_version, settings, files)


def write_descriptions(
    project: Any, version: str, idf_version: str, settings: dict[str, str], files: dict[int, str]
) -> None:
    flasher = {
        "write_flash_args": [word for name, value in settings.items() for word in (f"--{name}", value)],
        "flash_settings": settings,
        "flash_files": {hex(offset): name for offset, name in sorted(files.items())},
        "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": project.target},
    }
    (project.output / "flasher_args.json").write_text(json.dumps(flasher, indent=4))
    description = {
        "version": "1.2",
        "project_name": project.name,
        "project_version": version,
        "project_path": str(project.path),
        "idf_path": str(Path(__file__).parents[1]),
        "git_revision": idf_version,
        "config_file": str(project.sdkconfig),
        "target": project.target,
        "app_elf": f"{project.name}.elf",
        "app_bin": f"{project.name}.bin",
    }
    (project.output / "project_description.json").write_text(json.dumps(description, indent=4))


def describe(version: str, project: str, idf_version: str) -> bytes:
    """``esp_app_desc_t``; the SHA-256 of the ELF file is put in by esptool."""
    texts = [text.encode().ljust(size, b"\0") for text, size in
             ((version, 32), (project, 32), ("12:00:00", 16), ("Jan  1 2026", 16), (idf_version, 32))]  # fmt: skip
    for text, size in zip(texts, (32, 32, 16, 16, 32), strict=True):
        if len(text) > size - 1 and text[size - 1 :] != b"\0":
            sys.exit(f"error: {text!r} is too long for the application's description")
    return APP_DESCRIPTION.pack(APP_MAGIC, 0, bytes(8), *texts, bytes(32), *[0] * 20)


def flash_settings(configuration: dict[str, Any]) -> dict[str, str]:
    return {f"flash_{name}": str(configuration[f"ESPTOOLPY_FLASH{name.upper()}"]) for name in ("mode", "size", "freq")}


def image(elf: Path, output: Path, target: str, settings: dict[str, str], **more: int) -> None:
    elf2image(str(elf), target, str(output), append_digest=True, **settings, **more)


def write_elf(path: Path, machine: int, entry: int, sections: dict[str, tuple[int, int, bytes]]) -> None:
    """An executable for a 32-bit chip with these sections: name → (address, flags, content). Source: elf(5)."""
    names, body, headers = b"\0", bytearray(), [bytes(40)]
    start = 52
    for name, (address, flags, content) in sections.items():
        content += bytes(-len(content) % 4)
        headers.append(
            struct.pack("<10I", len(names), PROGBITS, flags, address, start + len(body), len(content), 0, 0, 4, 0)
        )
        names += name.encode() + b"\0"
        body += content
    own_name, names = len(names), names + b".shstrtab\0"
    headers.append(struct.pack("<10I", own_name, 3, 0, 0, start + len(body), len(names), 0, 0, 1, 0))
    body += names + bytes(-len(names) % 4)
    magic = b"\x7fELF\x01\x01\x01" + bytes(9)
    head = magic + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, entry, 0, start + len(body), 0, 52, 32, 0, 40,
                               len(headers), len(headers) - 1)  # fmt: skip
    path.write_bytes(head + body + b"".join(headers))


def source_of(path: Path) -> str:
    digests = [
        hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((path / "main").rglob("*")) if file.is_file()
    ]
    return "".join(digests)


def filler(seed: str, size: int) -> bytes:
    """Bytes that stand for code: always the same for the same seed."""
    return random.Random(int.from_bytes(hashlib.sha256(seed.encode()).digest())).randbytes(size)
