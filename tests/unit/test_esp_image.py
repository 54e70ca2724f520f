"""Firmware of the lab's ESP boards is what Espressif's format says, and what is broken is not taken for whole."""

import hashlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleetflash.lab.boards.esp.boot_choice import order
from fleetflash.lab.boards.esp.chips import CHIPS, mac_from_name, parse_mac
from fleetflash.lab.esp_format import AppDescription, ImageError, read_image, xor
from fleetflash.lab.esp_image import (
    PARTITIONS,
    app_lines,
    build_app,
    build_bootloader,
    build_filesystem,
    build_layout,
    main,
)
from fleetflash.lab.esp_partitions import (
    Partition,
    TableError,
    pack_selection,
    pack_table,
    read_selection,
    read_table,
)


def image_info(path: Path) -> str:
    """What Espressif's own tool says of an image."""
    return subprocess.run(
        [sys.executable, "-m", "esptool", "image-info", str(path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    ).stdout


@pytest.mark.parametrize("kind", CHIPS)
def test_esptool_finds_nothing_wrong(kind: str, tmp_path: Path) -> None:
    app, bootloader = tmp_path / "app", tmp_path / "bootloader"
    app.write_bytes(build_app(kind, "v1.2.3", project="weather", size=0x34560))
    bootloader.write_bytes(build_bootloader(kind))
    said = image_info(app)
    assert f"Chip ID: {CHIPS[kind].image_id} ({CHIPS[kind].name})" in said
    assert said.count("(valid)") == 2
    assert "Warning" not in said
    for line in ("Project name: weather", "App version: v1.2.3", "ESP-IDF: v5.3.1", "Image size: 214368 bytes"):
        assert line in said
    memory = [line.split()[-1] for line in said.splitlines() if line.strip()[:2] in ("0 ", "1 ", "2 ")]
    assert memory == ["DROM", "IRAM", "IROM"]
    assert image_info(bootloader).count("(valid)") == 2
    assert "Bootloader version: 1" in image_info(bootloader)


def test_equal_arguments_give_equal_bytes() -> None:
    assert build_app("esp32", "v1") == build_app("esp32", "v1")
    assert len({build_app("esp32", "v1"), build_app("esp32", "v2"), build_app("esp32", "v1", seed=1)}) == 3


def test_an_application_is_read_as_it_was_built() -> None:
    lines = ((0, "first"), (1500, "second, with 1 number and ÄÖ"))
    image = read_image(build_app("esp32s3", "v9", project="clock", lines=lines), 0)
    described = AppDescription.of(image)
    assert described is not None
    assert (described.version, described.project, image.chip_id) == ("v9", "clock", 9)
    assert app_lines(image) == list(lines)
    # Mapped segments lie in their 64 KiB page as they lie in flash.
    for segment in (image.segments[0], image.segments[2]):
        assert segment.address % 0x10000 == segment.offset % 0x10000


@given(st.integers(min_value=0, max_value=0x12000 - 1), st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    # Byte 23 says whether there is a SHA-256; without it only data has a checksum.
    assume(place != 23)
    data = bytearray(APP)
    data[place] ^= 1 << bit
    with pytest.raises(ImageError):
        read_image(bytes(data), 0x10000)


APP = build_app("esp32", "v1.0.0", size=0x12000)


@given(st.binary(max_size=300))
def test_reading_an_image_never_fails_in_another_way(data: bytes) -> None:
    for content in (data, b"\xe9" + data):
        with pytest.raises(ImageError):
            read_image(content, 0)


@given(st.binary(max_size=100))
def test_xor_is_the_sum_of_all_bytes(data: bytes) -> None:
    expected = 0
    for value in data:
        expected ^= value
    assert xor(data) == expected


def test_the_partition_table_is_that_of_the_guide() -> None:
    table = pack_table([Partition("factory", 0, 0, 0x10000, 0x100000), Partition("nvs", 1, 2, 0x9000, 0x6000)])
    first = bytes.fromhex("aa50 0000 00000100 00001000") + b"factory".ljust(16, b"\0") + bytes(4)
    second = bytes.fromhex("aa50 0102 00900000 00600000") + b"nvs".ljust(16, b"\0") + bytes(4)
    md5 = b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(first + second).digest()
    assert table == (first + second + md5).ljust(0xC00, b"\xff")


def test_a_table_is_read_as_it_was_built_and_damage_is_noticed() -> None:
    table = pack_table(PARTITIONS)
    assert read_table(table) == PARTITIONS
    end = 32 * len(PARTITIONS)
    # What fills up the entry of the MD5 is of no consequence.
    for place in (*range(end + 2), *range(end + 16, end + 32)):
        broken = bytearray(table)
        broken[place] ^= 0x40
        with pytest.raises(TableError):
            read_table(bytes(broken))
    with pytest.raises(TableError, match="invalid magic number 0xffff"):
        read_table(b"\xff" * 0xC00)


def test_otadata_is_that_of_a_real_board() -> None:
    # The entry that Arduino's boot_app0.bin has: slot 0, sequence number 1.
    real = bytes.fromhex("01000000" + "ff" * 20 + "ffffffff" + "9a984347")
    assert pack_selection(0, 2)[:32] == real
    assert read_selection(pack_selection(0, 2), 2) == 0
    assert read_selection(pack_selection(None, 2), 2) is None


def entry(sequence: int, state: int = 0xFFFFFFFF, crc_of: int | None = None) -> bytes:
    crc = zlib.crc32(struct.pack("<I", sequence if crc_of is None else crc_of), 0xFFFFFFFF)
    return struct.pack("<I20sII", sequence, b"", state, crc).ljust(0x1000, b"\xff")


@pytest.mark.parametrize(
    ("first", "second", "slot"),
    [
        (entry(1), entry(2), 1),
        (entry(3), entry(2), 0),
        (entry(4), entry(2, state=2), 1),
        (entry(3, state=3), entry(2), 1),
        (entry(3, state=4), entry(2), 1),
        (entry(3, crc_of=7), entry(2), 1),
        (entry(3, crc_of=7), b"\xff" * 0x1000, None),
    ],
)
def test_the_highest_valid_sequence_number_selects(first: bytes, second: bytes, slot: int | None) -> None:
    assert read_selection(first + second, 2) == slot


@pytest.mark.parametrize(
    ("selected", "tried"),
    [
        (None, ["factory", "ota_0", "ota_1"]),
        (0, ["ota_0", "factory", "ota_1"]),
        (1, ["ota_1", "ota_0", "factory"]),
    ],
)
def test_what_a_bootloader_tries_in_turn(selected: int | None, tried: list[str]) -> None:
    assert [part.label for part in order(PARTITIONS, selected)] == tried


def test_a_layout_has_every_part_at_its_place() -> None:
    app = build_app("esp32", "v1", size=0x12000)
    layout = build_layout("esp32", {"ota_0": app}, slot=0, files={"index.html": b"hello"})
    assert list(layout.parts) == [0x1000, 0x8000, 0xD000, 0x110000, 0x310000]
    merged = layout.merge()
    for offset, content in layout.parts.items():
        assert merged[offset : offset + len(content)] == content
    assert merged[:0x1000] == b"\xff" * 0x1000
    assert layout.parts[0x310000].startswith(b"LABFS1\nindex.html 5\n\0hello\xff")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 73728"):
        build_app("esp32", "v1", size=0x1000)
    with pytest.raises(ValueError, match="too long"):
        build_app("esp32", "v" * 32)
    with pytest.raises(ValueError, match="lines take"):
        build_app("esp32", "v1", lines=[(0, "x" * 0x4000)])
    with pytest.raises(ValueError, match="no partition 'ota_7'"):
        build_layout("esp32", {"ota_7": b""})
    with pytest.raises(ValueError, match="the partition has 1048576"):
        build_layout("esp32", {"factory": bytes(0x100001)})
    with pytest.raises(ValueError, match="unknown chip 'esp33'"):
        build_layout("esp33", {})
    with pytest.raises(ValueError, match="only 2 OTA partitions"):
        build_layout("esp32", {}, slot=2)
    with pytest.raises(ValueError, match="the partition has 4"):
        build_filesystem({"a": b"b"}, 4)


def test_the_command_line_writes_parts_and_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["esp32c3", "v1", str(tmp_path / "out"), "--size", "0x12000", "--label", "ota_1", "--slot", "1"]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0x000000.bin", "0x008000.bin", "0x00d000.bin", "0x210000.bin", "flasher_args.json", "merged.bin"]
    assert "0x210000: 73728 bytes" in capsys.readouterr().out
    assert main(["esp32c3", "v1", str(tmp_path / "out"), "--label", "nowhere"]) == 1
    assert "no partition 'nowhere'" in capsys.readouterr().err


def test_mac_addresses() -> None:
    assert parse_mac("24:0A:c4-010203") == bytes.fromhex("240ac4010203")
    for text in ("24:0a:c4", "xx0ac4010203", "240ac401020304"):
        with pytest.raises(ValueError, match="expected 12 hexadecimal digits"):
            parse_mac(text)
    assert mac_from_name("a") == mac_from_name("a") != mac_from_name("b")
