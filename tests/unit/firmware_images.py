"""Image files for the tests of the firmware package, built from the formats' documents."""

import json
import random
import struct
import zlib
from typing import Any

import bincopy

VERSION = "v0.12.0-120-gabcdef12"


def dictionary_json(version: str = VERSION, **changes: Any) -> bytes:
    """Return a dictionary as Klipper's build writes it (sorted keys, no blanks)."""
    document: dict[str, Any] = {
        "app": "Klipper",
        "build_versions": "gcc: (GCC) 13.2.0 binutils: (GNU Binutils) 2.41",
        "commands": {f"command_{number} oid=%c": number for number in range(40)},
        "config": {
            "MCU": "ch32v203",
            "CLOCK_FREQ": 144000000,
            "SERIAL_BAUD": 250000,
            "RESERVE_PINS_x": "PA9",
        },
        "enumerations": {"static_string_id": {"Timer too close": 2}, "pin": {"PA0": [0, 16]}},
        "license": "GNU GPLv3",
        "responses": {"clock clock=%u": 50},
        "version": version,
    }
    document.update(changes)
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def klipper_bin(version: str = "v0.12.0-120-gabcdef12", size: int = 30000, seed: int = 1, **changes: Any) -> bytes:
    """Return random bytes with a dictionary in the middle, ``size`` bytes together."""
    packed = zlib.compress(dictionary_json(version, **changes), 9)
    noise = random.Random(seed).randbytes(size - len(packed))
    half = len(noise) // 2 // 4 * 4
    return noise[:half] + packed + noise[half:]


def make_elf(blocks: list[tuple[int, int, bytes]], *, sections: bool = True, kind: int = 2) -> bytes:
    """Return a 32-bit little-endian ELF of (load address, run address, bytes) blocks, one segment each."""
    header_size, segment_size, section_size = 52, 32, 40
    offset = header_size + segment_size * len(blocks)
    segments, headers, body = b"", b"\0" * section_size, b""
    names = b"\0.text\0.shstrtab\0"
    for load, run, data in blocks:
        segments += struct.pack("<8I", 1, offset + len(body), run, load, len(data), len(data), 5, 4)
        headers += struct.pack("<10I", 1, 1, 6, run, offset + len(body), len(data), 0, 0, 4, 0)
        body += data
    # .bss, allocated but without bytes in the file
    headers += struct.pack("<10I", 1, 8, 3, 0x20000000, offset + len(body), 4096, 0, 0, 4, 0)
    headers += struct.pack("<10I", 7, 3, 0, 0, offset + len(body), len(names), 0, 0, 1, 0)
    table = offset + len(body) + len(names)
    count = len(blocks) + 3
    header = b"\x7fELF\1\1\1" + b"\0" * 9
    header += struct.pack(
        "<2H5I6H",
        kind, 243, 1, 0, header_size, table if sections else 0, 0, header_size,
        segment_size, len(blocks), section_size if sections else 0,
        count if sections else 0, count - 1 if sections else 0,
    )  # fmt: skip
    return header + segments + body + (names + headers if sections else b"")


def make_hex(address: int, data: bytes) -> bytes:
    file = bincopy.BinFile()
    file.add_binary(data, address)
    return bytes(file.as_ihex().encode())
