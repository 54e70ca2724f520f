"""Firmware that a real compiler built for a real chip says who it is, over Klipper's protocol.

The judge of our ``identify`` is AVR code under simavr, which shares nothing with it but the protocol's description.
"""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols.errors import NoAnswerError
from fleetflash.agent.protocols.klipper import block, identify, split_blocks
from fleetflash.firmware.image import load_image
from tests import simavr
from tests.firmware_source import FirmwareSource
from tests.simavr import SimulatedChip


def make(tree: Path, *arguments: str) -> str:
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = FirmwareSource(tmp_path_factory.mktemp("tree") / "klipper")
    (source.path / ".config").write_text('CONFIG_LOW_LEVEL_OPTIONS=y\nCONFIG_INITIAL_PINS="!PB5"\n')
    make(source.path, "olddefconfig")
    make(source.path)
    return source.path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simavr.build(tmp_path_factory.mktemp("simavr"))


@pytest.fixture
def port(program: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SerialPort]:
    # The program that runs the chip holds the port's other end, and this end open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    with SimulatedChip(program, built / "out/klipper.elf", tmp_path / "tty") as chip:
        opened = SerialPort.open(chip.path, 250000)
        yield opened
        opened.close()


def test_running_firmware_says_what_was_built(port: SerialPort, built: Path) -> None:
    found = identify(port)
    assert found.version.startswith("v0.1.0-0-g")
    assert found.constants == {
        "MCU": "atmega328p",
        "CLOCK_FREQ": 16000000,
        "SERIAL_BAUD": 250000,
        "INITIAL_PINS": "!PB5",
    }
    assert zlib.decompress(found.raw) == (built / "out/klipper.dict").read_bytes()
    assert identify(port).raw == found.raw


def test_firmware_finds_its_step_again_behind_noise(port: SerialPort) -> None:
    """A block that is cut short swallows the beginning of the next; 0x7e ends it."""
    port.write(block(3, b"\x01\x00\x28")[:4] + b"\x7e\x00\xff\x30garbage\x7e\x7e")
    port.read(100, 0.05)
    assert identify(port).version.startswith("v0.1.0-0-g")


def test_block_with_a_wrong_crc_is_refused(port: SerialPort) -> None:
    damaged = bytearray(block(0, b"\x01\x00\x28"))
    damaged[4] ^= 1
    port.write(bytes(damaged))
    assert split_blocks(bytearray(port.read(64, 0.1))) == [(0, b"")]


def test_the_image_files_are_one_firmware(built: Path) -> None:
    images = [load_image(built / "out" / name) for name in ("klipper.bin", "klipper.elf", "klipper.elf.hex")]
    assert {image.sha256 for image in images} == {images[0].sha256}
    assert images[0].klipper().constants == json.loads((built / "out/klipper.dict").read_text())["config"]


def test_other_chip_and_baud_rate_in_their_own_directory(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``KCONFIG_CONFIG=`` and ``OUT=`` as Klipper's Makefile takes them."""
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    source = FirmwareSource(tmp_path / "klipper")
    config, out = tmp_path / "mega.config", tmp_path / "mega"
    config.write_text("CONFIG_LOW_LEVEL_OPTIONS=y\nCONFIG_MACH_atmega2560=y\nCONFIG_SERIAL_BAUD=115200\n")
    for target in ("olddefconfig", "all"):
        make(source.path, target, f"KCONFIG_CONFIG={config}", f"OUT={out}/")
    assert not (source.path / "out").exists() and not (source.path / ".config").exists()
    with SimulatedChip(program, out / "klipper.elf", tmp_path / "tty", mcu="atmega2560") as chip:
        port = SerialPort.open(chip.path, 115200)
        assert identify(port).constants["MCU"] == "atmega2560"
        port.close()


def test_changed_tree_is_dirty_and_carries_its_date_and_host(tmp_path: Path) -> None:
    """What Klipper does (scripts/buildcommands.py, build_version), and why builds take a clean tree."""
    source = FirmwareSource(tmp_path / "klipper")
    source.replace("src/main.c", "int\nmain", "int main")
    make(source.path, "olddefconfig")
    assert "-dirty-20" in make(source.path)


def test_silence_is_told_from_an_answer(
    program: Path, tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chip whose flash holds other code does not answer."""
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    code = tmp_path / "loop.c"
    code.write_text("int main(void) { for (;;) ; }\n")
    subprocess.run(["avr-gcc", "-mmcu=atmega328p", "-o", tmp_path / "loop.elf", code], check=True)
    with SimulatedChip(program, tmp_path / "loop.elf", tmp_path / "tty") as chip:
        port = SerialPort.open(chip.path, 250000)
        with pytest.raises(NoAnswerError):
            identify(port, timeout=0.05, tries=2)
        port.close()
