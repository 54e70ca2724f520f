"""The lab's firmware images: what the boards boot and what the firmware tools have to recognise."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from fleetflash.lab.image import HEADER, HEADER_OFFSET, build_image, read_firmware


def test_equal_arguments_give_equal_bytes_and_others_do_not() -> None:
    assert build_image("v1") == build_image("v1")
    different = {build_image("v1"), build_image("v2"), build_image("v1", seed=1), build_image("v1", mcu="x")}
    assert len(different) == 4


@pytest.mark.parametrize("size", [4096, 30 * 1024, 30 * 1024 + 1, 64 * 1024])
def test_image_has_exactly_the_size_asked_for(size: int) -> None:
    image = build_image("v1", size=size)
    assert len(image) == size
    assert read_firmware(image + b"\xff" * 100) is not None


def test_image_too_small_for_its_dictionary_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        build_image("v1", size=1024)


def test_dictionary_is_a_zlib_stream_in_the_middle_of_incompressible_code() -> None:
    image = build_image("v0.12.0-1-gabc", constants={"WHO": "me", "CLOCK_FREQ": 1_000_000})
    _, size, offset, length, _ = HEADER.unpack_from(image, HEADER_OFFSET)
    assert size == len(image)
    assert 10_000 < offset < 20_000
    dictionary = json.loads(zlib.decompress(image[offset : offset + length]))
    assert dictionary["app"] == "Klipper"
    assert dictionary["version"] == "v0.12.0-1-gabc"
    assert dictionary["build_versions"].startswith("gcc:")
    assert dictionary["license"]
    assert dictionary["config"]["WHO"] == "me"
    assert dictionary["config"]["CLOCK_FREQ"] == 1_000_000
    assert dictionary["config"]["MCU"] == "ch32v203c8"
    assert dictionary["config"]["SERIAL_BAUD"] == 250000
    assert dictionary["responses"]["identify_response offset=%u data=%.*s"] == 0
    assert dictionary["commands"]["identify offset=%u count=%c"] == 1
    ids = [*dictionary["commands"].values(), *dictionary["responses"].values()]
    assert len(ids) == len(set(ids))
    assert len(zlib.compress(image, 9)) > 0.97 * len(image)


@pytest.mark.parametrize("position", [0, 0x100, 0x110, 0x114, 5000, 15_500, 30 * 1024 - 1])
def test_one_wrong_bit_anywhere_and_the_image_does_not_run(position: int) -> None:
    image = bytearray(build_image("v1"))
    image[position] ^= 0x04
    assert read_firmware(bytes(image)) is None


@pytest.mark.parametrize(
    ("mcu", "base", "start"),
    [
        ("stm32f103xe", None, "00500020" + "19010008"),
        ("stm32f446xx", 0x0800_8000, "00000220" + "19810008"),
        ("rp2040", 0x1000_4000, "00200420" + "19410010"),
        ("atmega328p", None, "0c948c00" * 2),
        ("atmega2560", None, "0c948c00" * 2),
        ("ch32v203c8", None, "6f008011" + "13000000"),
    ],
)
def test_an_image_begins_as_its_cpu_wants_it(mcu: str, base: int | None, start: str) -> None:
    """Stack and reset handler with its Thumb bit, or jumps; the code begins at 0x118 of the image."""
    image = build_image("v1", mcu=mcu, base=base)
    assert image[:8].hex() == start
    firmware = read_firmware(image, base)
    assert firmware is not None and firmware.dictionary["config"]["MCU"] == mcu


def test_a_cortex_m_image_runs_only_where_it_is_linked_to() -> None:
    image = build_image("v1", mcu="stm32f103xe", base=0x0800_2000)
    assert read_firmware(image, 0x0800_2000) is not None
    assert read_firmware(image, 0x0800_0000) is None
    assert read_firmware(b"", 0x0800_0000) is None


def test_half_an_image_does_not_run() -> None:
    image = build_image("v1")
    assert read_firmware(image[:15_000] + b"\xff" * 50_000) is None
    assert read_firmware(b"\xff" * 65536) is None
    assert read_firmware(b"") is None


def test_command_line_writes_the_image(tmp_path: Path) -> None:
    out = tmp_path / "klipper.bin"
    command = [sys.executable, "-m", "fleetflash.lab.image", "v3", str(out), "--mcu", "stm32f103xe"]
    subprocess.run([*command, "--constant", "CANBUS_FREQUENCY=1000000"], check=True)
    expected = build_image("v3", mcu="stm32f103xe", constants={"CANBUS_FREQUENCY": 1_000_000})
    assert out.read_bytes() == expected
