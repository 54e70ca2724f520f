"""Firmware that a real compiler built for a real chip says who it is, over Klipper's protocol.

The judge of our ``identify`` is AVR code under simavr, which shares nothing with it but the protocol's description.
"""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from board_process import BoardProcess
from programmed_board import described, flash
from simavr_chip import MEGA, UNO, Arduino, SimulatedChip, compile_simulator, to_binary

from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols.errors import NoAnswerError
from fleetflash.agent.protocols.klipper import block, identify, split_blocks
from fleetflash.build.board_type import read_board_types
from fleetflash.build.builder import Builder
from fleetflash.build.toolchain import read_toolchains
from fleetflash.firmware.image import load_image
from fleetflash.firmware.store import Store
from tests.firmware_source import FirmwareSource

ROOT = Path(__file__).parents[2]
Plug = Callable[..., SimulatedChip]


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
    return compile_simulator(tmp_path_factory.mktemp("simavr"))


@pytest.fixture
def plug(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the simulator has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    chips: list[SimulatedChip] = []

    def start(code: Path, mcu: str = "atmega328p") -> SimulatedChip:
        chips.append(SimulatedChip(program, mcu, code, 0, tmp_path))
        return chips[-1]

    yield start
    for chip in chips:
        chip.stop()


@pytest.fixture
def port(plug: Plug, built: Path) -> Iterator[SerialPort]:
    opened = SerialPort.open(str(plug(built / "out/klipper.bin").tty), 250000)
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
    assert identify(port)  # it listens by now
    damaged = bytearray(block(0, b"\x01\x00\x28"))
    damaged[4] ^= 1
    port.write(bytes(damaged))
    [(_, refusal)] = split_blocks(bytearray(port.read(5, 5)))
    assert refusal == b""
    assert identify(port)


def test_the_image_files_are_one_firmware(built: Path) -> None:
    images = [load_image(built / "out" / name) for name in ("klipper.bin", "klipper.elf", "klipper.elf.hex")]
    assert {image.sha256 for image in images} == {images[0].sha256}
    assert images[0].klipper().constants == json.loads((built / "out/klipper.dict").read_text())["config"]


def test_other_chip_and_baud_rate_in_their_own_directory(tmp_path: Path, plug: Plug) -> None:
    """``KCONFIG_CONFIG=`` and ``OUT=`` as Klipper's Makefile takes them."""
    source = FirmwareSource(tmp_path / "klipper")
    config, out = tmp_path / "mega.config", tmp_path / "mega"
    config.write_text("CONFIG_LOW_LEVEL_OPTIONS=y\nCONFIG_MACH_atmega2560=y\nCONFIG_SERIAL_BAUD=115200\n")
    for target in ("olddefconfig", "all"):
        make(source.path, target, f"KCONFIG_CONFIG={config}", f"OUT={out}/")
    assert not (source.path / "out").exists() and not (source.path / ".config").exists()
    port = SerialPort.open(str(plug(out / "klipper.bin", "atmega2560").tty), 115200)
    assert identify(port).constants["MCU"] == "atmega2560"
    port.close()


def test_changed_tree_is_dirty_and_carries_its_date_and_host(tmp_path: Path) -> None:
    """What Klipper does (scripts/buildcommands.py, build_version), and why builds take a clean tree."""
    source = FirmwareSource(tmp_path / "klipper")
    source.replace("src/main.c", "int\nmain", "int main")
    make(source.path, "olddefconfig")
    assert "-dirty-20" in make(source.path)


def test_silence_is_told_from_an_answer(tmp_path: Path, plug: Plug) -> None:
    """A chip whose flash holds other code does not answer."""
    code, elf, binary = (tmp_path / f"loop.{suffix}" for suffix in ("c", "elf", "bin"))
    code.write_text("int main(void) { for (;;) ; }\n")
    subprocess.run(["avr-gcc", "-mmcu=atmega328p", "-o", elf, code], check=True)
    to_binary("elf32-avr", elf, binary)
    port = SerialPort.open(str(plug(binary).tty), 250000)
    with pytest.raises(NoAnswerError):
        identify(port, timeout=0.05, tries=2)
    port.close()


@pytest.mark.parametrize("arduino", [UNO, MEGA], ids=lambda arduino: arduino.mcu)
def test_board_type_is_built_flashed_through_its_bootloader_and_says_what_was_built(
    arduino: Arduino, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a description to real code on a real bootloader: what comes back over the wire is the artifact."""
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    toolchains = read_toolchains({"avr": {"version": "5", "debian": {"gcc-avr": "*", "avr-libc": "*"}}})
    fields = {
        "chip": arduino.mcu,
        "firmware": "klipper-avr",
        "repository": str(FirmwareSource(tmp_path / "klipper").path),
        "ref": "v0.1.0",
        "kconfig": {f"MACH_{arduino.mcu}": True},
        "toolchain": "avr",
        "image": "klipper.elf.hex",
    }
    builder = Builder(tmp_path / "cache", Store(tmp_path / "store"), ROOT, toolchains)
    artifact = builder.ensure(read_board_types({"board": fields}, toolchains)["board"]).artifact

    chip = SimulatedChip.with_bootloader(program, arduino, tmp_path)
    target = {"chip": arduino.mcu, "chip_ids": [arduino.signature], "flash_size": arduino.room, "programmer": "stk500"}
    board = described(cast(BoardProcess, chip), b"", **target)
    flash(board, builder.store.read_file(artifact))
    found = board.identify(250000)
    chip.stop()
    assert artifact.klipper is not None
    assert artifact.klipper.describes(found.version, found.build_versions, found.constants)
    assert found.version == artifact.version
