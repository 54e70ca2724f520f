"""A plausible Klipper firmware image: ``build_image`` writes it, ``read_firmware`` boots a board from it.

Layout (all integers little-endian), as the board's "CPU" sees it where the application begins:

======  =====================================================================
0x000   vectors and start-up words of the chip's architecture (``startup``)
0x100   header: magic, total size, dictionary offset and length, CRC-32 of the whole image (field zeroed)
0x118   "code": incompressible bytes, the same for the same version and seed
middle  the zlib-compressed data dictionary (JSON), as in a real ``klipper.bin``
...     "code" to the end
======  =====================================================================

Real Klipper has no such header or CRC; it stands for the fact that a half-written program does not run. The
form of the dictionary (keys, message formats, ids 0 and 1) is that of Klipper's ``docs/Protocol.md``.
"""

import argparse
import hashlib
import json
import random
import struct
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleetflash.lab.startup import LENGTH as HEADER_OFFSET
from fleetflash.lab.startup import runs_at, startup

HEADER = struct.Struct("<8sIIII")
MAGIC = b"KLIPLAB\0"
CODE_OFFSET = HEADER_OFFSET + HEADER.size

COMMANDS = (
    "identify offset=%u count=%c",
    "allocate_oids count=%c",
    "clear_shutdown",
    "config_analog_in oid=%c pin=%u",
    "config_digital_out oid=%c pin=%u value=%c default_value=%c max_duration=%u",
    "config_reset",
    "debug_nop",
    "debug_ping data=%*s",
    "emergency_stop",
    "finalize_config crc=%u",
    "get_clock",
    "get_config",
    "get_uptime",
    "query_analog_in oid=%c clock=%u sample_ticks=%u sample_count=%c rest_ticks=%u min_value=%hu"
    " max_value=%hu range_check_count=%c",
    "queue_digital_out oid=%c clock=%u on_ticks=%u",
    "reset",
    "set_digital_out pin=%u value=%c",
    "update_digital_out oid=%c value=%c",
)
RESPONSES = (
    "identify_response offset=%u data=%.*s",
    "analog_in_state oid=%c next_clock=%u value=%hu",
    "clock clock=%u",
    "config is_config=%c crc=%u is_shutdown=%c move_count=%hu",
    "is_shutdown static_string_id=%hu",
    "pong data=%*s",
    "shutdown clock=%u static_string_id=%hu",
    "starting",
    "stats count=%u sum=%u sumsq=%u",
    "uptime high=%u clock=%u",
)
STATIC_STRINGS = (
    "ADC out of range",
    "Already finalized",
    "Can't assign oid",
    "Command parser error",
    "Command request",
    "Invalid command",
    "Invalid oid type",
    "Message encode error",
    "Missed scheduling of next digital out event",
    "Shutdown cleared when not shutdown",
    "Timer too close",
    "Watchdog timer",
    "config_reset only available when shutdown",
    "oids already allocated",
)
# Chips that the lab knows by name: core clock in Hz. Others get 72 MHz.
CLOCKS = {
    "ch32v203c8": 144_000_000,
    "stm32f103xe": 72_000_000,
    "stm32f446xx": 180_000_000,
    "rp2040": 12_000_000,
    "atmega328p": 16_000_000,
    "atmega2560": 16_000_000,
}


@dataclass(frozen=True)
class Firmware:
    """What the CPU finds in a valid image."""

    version: str
    dictionary: dict[str, Any]
    identify_data: bytes
    baud: int
    clock_hz: int

    def renamed(self, version: str) -> "Firmware":
        """The same firmware with another version in its dictionary."""
        dictionary = {**self.dictionary, "version": version}
        return replace(self, version=version, dictionary=dictionary, identify_data=_pack(dictionary))


def build_dictionary(
    version: str, *, mcu: str, baud: int, build_versions: str, constants: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The data dictionary of a build, before compression. ``constants`` overrides or adds to ``config``."""
    # identify_response and identify have the ids 0 and 1 in every Klipper; the others as they come.
    formats = [RESPONSES[0], COMMANDS[0], *COMMANDS[1:], *RESPONSES[1:]]
    ids = {text: number for number, text in enumerate(formats)}
    config: dict[str, Any] = {
        "ADC_MAX": 4095,
        "CLOCK_FREQ": CLOCKS.get(mcu, 72_000_000),
        "MCU": mcu,
        "PWM_MAX": 255,
        "RECEIVE_WINDOW": 192,
        "RESERVE_PINS_serial": "PA10,PA9",
        "SERIAL_BAUD": baud,
        "STATS_SUMSQ_BASE": 256,
    }
    config.update(constants or {})
    return {
        "app": "Klipper",
        "build_versions": build_versions,
        "commands": {text: ids[text] for text in COMMANDS},
        "config": config,
        "enumerations": {
            "pin": {f"P{port}0": [16 * index, 16] for index, port in enumerate("ABCD")},
            "static_string_id": {text: number for number, text in enumerate(STATIC_STRINGS, 2)},
        },
        "license": "GNU GPLv3",
        "output": {},
        "responses": {text: ids[text] for text in RESPONSES},
        "version": version,
    }


def build_image(
    version: str,
    *,
    mcu: str = "ch32v203c8",
    seed: int = 0,
    size: int = 30 * 1024,
    baud: int = 250000,
    build_versions: str = "gcc: (lab) 12.2.0 binutils: (lab) 2.40",
    constants: dict[str, Any] | None = None,
    base: int | None = None,
) -> bytes:
    """A firmware image of exactly ``size`` bytes; equal arguments give equal bytes.

    ``base`` is the address that a Cortex-M image is linked to, by default the beginning of the chip's flash.

    Raises ValueError when the dictionary does not fit.
    """
    dictionary = build_dictionary(version, mcu=mcu, baud=baud, build_versions=build_versions, constants=constants)
    packed = _pack(dictionary)
    room = size - CODE_OFFSET - len(packed)
    if room < 0:
        raise ValueError(f"an image of {size} bytes has no room for its dictionary of {len(packed)} bytes")
    # A string is a poor seed for random (hash-like, version dependent); its digest is not.
    digest = hashlib.sha256(f"{version}\0{mcu}\0{seed}".encode()).digest()
    code = random.Random(int.from_bytes(digest, "big")).randbytes(room)
    # Code is word-aligned, the dictionary lies where the linker put it.
    before = room // 2 & ~3
    dictionary_offset = CODE_OFFSET + before
    vectors = startup(mcu, base)
    body = code[:before] + packed + code[before:]

    def with_crc(crc: int) -> bytes:
        return vectors + HEADER.pack(MAGIC, size, dictionary_offset, len(packed), crc) + body

    return with_crc(zlib.crc32(with_crc(0)))


def _pack(dictionary: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(dictionary, sort_keys=True, separators=(",", ":")).encode(), 9)


def read_firmware(flash: bytes, base: int | None = None) -> Firmware | None:
    """The firmware at the start of a code flash, or None when there is none that would run.

    With ``base``, the address of that start, the image must be linked to it as its vector table says.
    """
    try:
        if base is not None and not runs_at(flash, base):
            return None
        magic, size, offset, length, crc = HEADER.unpack_from(flash, HEADER_OFFSET)
        if magic != MAGIC or not CODE_OFFSET <= size <= len(flash) or offset + length > size:
            return None
        image = bytearray(flash[:size])
        image[CODE_OFFSET - 4 : CODE_OFFSET] = bytes(4)
        if zlib.crc32(image) != crc:
            return None
        packed = bytes(flash[offset : offset + length])
        dictionary = json.loads(zlib.decompress(packed))
        config = dictionary["config"]
        return Firmware(
            version=dictionary["version"],
            dictionary=dictionary,
            identify_data=packed,
            baud=int(config.get("SERIAL_BAUD", 250000)),
            clock_hz=int(config["CLOCK_FREQ"]),
        )
    except (struct.error, zlib.error, ValueError, KeyError):
        return None


def main(argv: list[str] | None = None) -> int:
    """``python -m fleetflash.lab.image VERSION OUT.bin``: write one image."""
    parser = argparse.ArgumentParser(prog="python -m fleetflash.lab.image", description=main.__doc__)
    parser.add_argument("version")
    parser.add_argument("out", type=Path)
    parser.add_argument("--mcu", default="ch32v203c8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=30 * 1024, help="bytes (default: %(default)s)")
    parser.add_argument("--baud", type=int, default=250000)
    parser.add_argument("--base", type=lambda text: int(text, 0), help="address that it is linked to (Cortex-M)")
    parser.add_argument("--constant", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args(argv)
    constants: dict[str, Any] = {}
    for item in arguments.constant:
        name, _, value = item.partition("=")
        constants[name] = int(value) if value.lstrip("-").isdigit() else value
    try:
        image = build_image(
            arguments.version,
            mcu=arguments.mcu,
            seed=arguments.seed,
            size=arguments.size,
            baud=arguments.baud,
            constants=constants,
            base=arguments.base,
        )
        arguments.out.write_bytes(image)
    except (ValueError, OSError) as error:
        print(f"{arguments.out}: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {len(image)} bytes, sha256 {hashlib.sha256(image).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
