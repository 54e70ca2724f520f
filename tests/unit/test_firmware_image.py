"""An image's own dictionary is found wherever it lies; anything else is an error in one line."""

import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from firmware_images import VERSION, dictionary_json, klipper_bin, make_elf, make_hex
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetflash.firmware.elf import read_elf
from fleetflash.firmware.errors import (
    AmbiguousDictionaryError,
    DictionaryError,
    ImageError,
    NotKlipperImageError,
    TruncatedImageError,
)
from fleetflash.firmware.image import ImageFormat, load_image, parse_image
from fleetflash.firmware.klipper_dictionary import (
    decompress_dictionary,
    find_dictionaries,
    find_dictionary,
    parse_dictionary,
)

SMALL = klipper_bin(size=3000)


@given(
    before=st.binary(max_size=3000),
    after=st.binary(max_size=3000),
    level=st.sampled_from([1, 6, 9]),
    copies=st.integers(1, 2),
)
def test_dictionary_is_found_at_any_position(before: bytes, after: bytes, level: int, copies: int) -> None:
    raw = dictionary_json()
    data = before + (zlib.compress(raw, level) + after) * copies
    assert find_dictionary(data) == parse_dictionary(raw)
    assert find_dictionaries(data)[0][0] == len(before)


@given(seed=st.integers(0, 2**32), size=st.integers(5000, 200_000))
@settings(max_examples=30)
def test_dictionary_is_found_in_random_firmware(seed: int, size: int) -> None:
    assert find_dictionary(klipper_bin(size=size, seed=seed)).version == VERSION


@given(noise=st.binary(max_size=300))
def test_zlib_headers_around_the_dictionary_do_not_hide_it(noise: bytes) -> None:
    data = (
        b"\x78\x78\xda\x78\x9c" + noise + b"\x78" + zlib.compress(b"{not klipper}") + zlib.compress(dictionary_json())
    )
    assert find_dictionary(data).mcu == "ch32v203"


def test_dictionary_says_version_mcu_and_constants() -> None:
    found = find_dictionary(klipper_bin())
    assert (found.version, found.mcu, found.app) == (VERSION, "ch32v203", "Klipper")
    assert found.constants["CLOCK_FREQ"] == 144000000
    assert found.build_versions.startswith("gcc:")


def test_image_dict_file_and_board_have_the_same_hash() -> None:
    raw = dictionary_json()
    from_file = parse_image(raw, "klipper.dict").klipper()
    from_board = decompress_dictionary(zlib.compress(raw))
    assert find_dictionary(klipper_bin()).raw_sha256 == from_file.raw_sha256 == from_board.raw_sha256


def test_two_different_dictionaries_are_an_error_that_names_both() -> None:
    versions = ["v0.11.0-1-gaaaaaaaa", "v0.12.0-2-gbbbbbbbb"]
    data = b"".join(map(klipper_bin, versions))
    with pytest.raises(AmbiguousDictionaryError, match=".*".join(map(re.escape, versions))):
        find_dictionary(data)
    assert [found.version for _, found in find_dictionaries(data)] == versions


@given(st.binary(max_size=5000))
def test_random_bytes_are_not_klipper(data: bytes) -> None:
    with pytest.raises(NotKlipperImageError):
        find_dictionary(data)


@given(position=st.floats(0.2, 0.999))
def test_truncated_dictionary_is_an_error(position: float) -> None:
    packed = zlib.compress(dictionary_json(), 9)
    with pytest.raises(DictionaryError):
        find_dictionary(b"\xff" * 100 + packed[: int(len(packed) * position)])


@given(data=st.data())
@settings(max_examples=300)
def test_damage_is_an_image_error_and_never_another_exception_nor_a_wrong_answer(data: st.DataObject) -> None:
    raw = dictionary_json()
    packed = bytearray(zlib.compress(raw, 9))
    position = data.draw(st.integers(0, len(packed) - 1))
    packed[position] ^= data.draw(st.integers(1, 255))
    try:
        found = find_dictionary(b"\xff" * 64 + bytes(packed) + b"\xff" * 64)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        # A flipped bit of the header alone (level, window) does not touch the content.
        assert position < 2 and found == parse_dictionary(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": 12},
        {"version": ""},
        {"version": "v1\n\x1b[31m"},
        {"version": "\ud800"},
        {"config": {}},
        {"config": {"MCU": 7}},
        {"config": {"MCU": "ch32v203", "CLOCK_FREQ": 1.5}},
        {"config": {"MCU": "ch32v203", "CLOCK_FREQ": True}},
        {"config": {"MCU": "ch32v203", "PINS": ["PA1"]}},
    ],
)
def test_incomplete_dictionary_is_an_error_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(DictionaryError) as caught:
        find_dictionary(klipper_bin(**change))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"{}", b"[" * 100_000, b"\xff", b'{"a":' + b"9" * 5000 + b"}"])
def test_json_that_is_no_dictionary_is_an_error(raw: bytes) -> None:
    with pytest.raises(DictionaryError):
        parse_dictionary(raw)


def test_decompression_is_bounded() -> None:
    bomb = zlib.compress(b'{"app":"' + b"A" * 50_000_000 + b'"}', 9)
    with pytest.raises(DictionaryError, match="larger than"):
        find_dictionary(bomb)


def test_bin_hex_and_elf_of_one_build_have_the_same_bytes() -> None:
    data = klipper_bin()
    raw = parse_image(data, "klipper.bin")
    as_hex = parse_image(make_hex(0x0800_0000, data), "klipper.hex")
    as_elf = parse_image(make_elf([(0x0800_0000, 0x0800_0000, data)]), "klipper.elf")
    assert (raw.format, as_hex.format, as_elf.format) == (ImageFormat.RAW, ImageFormat.HEX, ImageFormat.ELF)
    assert raw.data == as_hex.data == as_elf.data
    assert raw.klipper() == as_hex.klipper() == as_elf.klipper()
    assert (raw.base_address, as_hex.base_address, as_elf.base_address) == (0, 0x0800_0000, 0x0800_0000)


@given(address=st.integers(0, 0xFFFF_0000), data=st.binary(min_size=1, max_size=2000))
def test_any_hex_file_is_read_where_it_belongs(address: int, data: bytes) -> None:
    image = parse_image(make_hex(address, data), "a.hex")
    assert (image.base_address, image.data) == (address, data)


@pytest.mark.parametrize("sections", [True, False])
def test_elf_puts_initialised_data_at_its_load_address(sections: bool) -> None:
    # .data runs in RAM and is loaded from flash right behind .text, with a gap of two bytes.
    memory = read_elf(
        make_elf([(0x800_0000, 0x800_0000, b"text!!"), (0x800_0008, 0x2000_0000, b"data")], sections=sections)
    )
    assert (memory.base_address, memory.data) == (0x800_0000, b"text!!\0\0data")


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("objcopy")), reason="needs gcc and objcopy")
def test_elf_is_read_as_objcopy_does(tmp_path: Path) -> None:
    packed = zlib.compress(dictionary_json(), 9)
    source = "const unsigned char d[] = {%s}; int x = 7; int zero[100]; int main(void) {return d[x];}"
    (tmp_path / "a.c").write_text(source % ",".join(map(str, packed)))
    elf, flat = tmp_path / "klipper.elf", tmp_path / "klipper.bin"
    link = ["-static", "-nostdlib", "-Wl,-e,main", "-Wl,-Ttext=0x10000", "-Wl,--build-id=none"]
    subprocess.run(["gcc", "-o", elf, tmp_path / "a.c", *link], check=True)
    subprocess.run(["objcopy", "-O", "binary", elf, flat], check=True)
    image = load_image(elf)
    assert image.data == flat.read_bytes()
    assert image.klipper() == load_image(flat).klipper()


@given(cut=st.integers(1, 400))
def test_truncated_hex_is_an_error(cut: int) -> None:
    with pytest.raises(TruncatedImageError):
        parse_image(make_hex(0, klipper_bin(size=4000))[: -cut - 13] + b"\n", "klipper.hex")


@given(cut=st.integers(1, 4000))
def test_truncated_elf_is_an_error(cut: int) -> None:
    elf = make_elf([(0, 0, klipper_bin(size=4000))])
    with pytest.raises(ImageError):
        parse_image(elf[:-cut], "klipper.elf")
    with pytest.raises(TruncatedImageError):
        parse_image(make_elf([(0, 0, klipper_bin(size=4000))], sections=False)[:-cut], "klipper.elf")


@given(
    original=st.sampled_from([make_elf([(0, 0, klipper_bin(size=3000))]), make_hex(0, klipper_bin(size=3000))]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=5),
    keep=st.floats(0, 1),
    name=st.sampled_from(["a", "a.bin", "a.hex", "a.elf", "klipper.dict"]),
)
@settings(max_examples=400)
def test_damaged_files_never_raise_anything_but_image_errors(
    original: bytes, changes: list[tuple[int, int]], keep: float, name: str
) -> None:
    content = bytearray(original)
    for position, value in changes:
        content[position] = value
    try:
        parse_image(bytes(content[: int(len(content) * keep)]), name)
    except ImageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"", "a.bin", "empty"),
        (b"MZ", "a.hex", "named like hex"),
        (b"MZ", "a.elf", "named like elf"),
        (b"{}", "klipper.dict", "named like dictionary"),
        (b"UF2\n" + bytes(508), "klipper.uf2", "UF2"),
        (make_elf([(0, 0, b"x")], kind=1), "klipper.o", "not a linked program"),
        (b":00000001FF\n", "a.hex", "no bytes for flash"),
        (make_hex(0, b"a") + make_hex(9, b"b"), "a.hex", "goes on after"),
        (b":0100000041BE\n:0100000042BD\n:00000001FF\n", "a.hex", "claim|damaged"),
        (b":0100000041BE\n:020000040800F2\n:0100000041BE\n:00000001FF\n", "a.hex", "spreads"),
        (b":020000021000EC\n:020000040800F2\n:0100000041BE\n:00000001FF\n", "a.hex", "mixes"),
        (b":0100000041BF\n:00000001FF\n", "a.hex", "damaged"),
        (make_elf([(0, 0, b"abcd"), (2, 2, b"efgh")]), "a.elf", "claim address 0x2"),
    ],
)
def test_unusable_files_say_what_is_wrong(content: bytes, name: str, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        parse_image(content, name)


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").touch()
    for path in (tmp_path / "missing.bin", tmp_path / "empty.bin", tmp_path):
        with pytest.raises(ImageError, match=re.escape(str(path))):
            load_image(path)


def test_only_a_raw_file_takes_an_offset() -> None:
    assert parse_image(b"abc", "a.bin", 0x2000).base_address == 0x2000
    with pytest.raises(ImageError, match="leave the offset"):
        parse_image(make_hex(0, b"abc"), "a.hex", 0x2000)


def test_image_without_dictionary_is_loaded_and_says_so_when_asked() -> None:
    image = parse_image(b"vendor firmware", "factory.bin")
    assert image.dictionary is None
    with pytest.raises(NotKlipperImageError, match=r"factory\.bin"):
        image.klipper()


def test_lab_images_are_read_like_real_ones() -> None:
    lab = pytest.importorskip("fleetflash.lab.image")
    assert find_dictionary(lab.build_image("v0.12.0-1-g12345678")).version == "v0.12.0-1-g12345678"


def test_program_of_a_host_is_the_file_itself_with_its_own_dictionary() -> None:
    content = make_elf([(0x1000, 0x1000, klipper_bin())])
    image = parse_image(content, "klipper.elf", program=True)
    assert (image.data, image.base_address) == (content, 0) and image.klipper().version == VERSION
    for other in (klipper_bin(), make_hex(0, klipper_bin())):
        with pytest.raises(ImageError, match="an ELF program at offset 0"):
            parse_image(other, "klipper", program=True)
    with pytest.raises(ImageError, match="an ELF program at offset 0"):
        parse_image(content, "klipper.elf", 0x2000, program=True)
