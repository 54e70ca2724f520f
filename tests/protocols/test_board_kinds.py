"""Every kind of simulated board leaves its factory with an application that it runs and our own tools recognise."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from board_process import BoardProcess, wait_for

from fleetflash.cli import board as cli
from fleetflash.firmware.chips import CHIPS, check_image_fits, chip
from fleetflash.firmware.image import parse_image
from fleetflash.lab.boards.kinds import KINDS
from fleetflash.lab.errors import LabError
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import BoardSpec, HostSpec

#: Those that leave their factory with Klipper.
KLIPPER_KINDS = [kind for kind in KINDS if not kind.startswith("esp")]


@pytest.mark.parametrize("kind", KLIPPER_KINDS)
def test_a_board_from_the_factory_runs_its_application(tmp_path: Path, kind: str) -> None:
    content = KINDS[kind].factory("v9.8.7")
    board = BoardProcess(kind, tmp_path, flash=content)
    try:
        wait_for(lambda: board.mode == "application", timeout=3)
        assert board.status("version") == "v9.8.7"
        assert len(board.flash()) == KINDS[kind].flash_size
        assert board.flash()[: len(content)] == content
        # The mass of what a flasher sees is the application; its last byte decides whether it runs.
        board.stop()
        broken = bytearray(content)
        broken[-1] ^= 0x01
        again = BoardProcess(kind, tmp_path / "broken", flash=bytes(broken), has_port=False)
        try:
            assert again.status("version") is None
        finally:
            again.stop()
    finally:
        board.stop()


@pytest.mark.parametrize("kind", KLIPPER_KINDS)
def test_its_image_names_its_chip_and_version(kind: str) -> None:
    image = parse_image(KINDS[kind].factory("v9.8.7"), "flash.bin")
    assert image.dictionary is not None
    assert image.dictionary.version == "v9.8.7"
    fitting = [name for name in CHIPS if name.startswith(image.dictionary.mcu[:10])]
    for name in fitting:
        assert check_image_fits(image, chip(name)) == 0
    assert fitting or not kind.startswith("atmega")


def test_a_flash_file_of_another_size_a_wrong_uid_and_an_unknown_kind_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "flash.bin").write_bytes(bytes(200 * 1024))
    places = ["--pty", str(tmp_path / "tty"), "--flash", str(tmp_path / "flash.bin")]

    def refuse(*arguments: str) -> str:
        command = [sys.executable, "-m", "fleetflash", "board", *arguments, *places]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 2
        return result.stderr.strip()

    assert "204800 bytes, but this chip has 131072" in refuse("stm32f103")
    said = refuse("katapult-rp2040", "--uid", "00112233445566778899")
    assert said.endswith("--uid 00112233445566778899: 10 bytes, a RP2040 has 8")
    assert "\n" not in said
    with pytest.raises(LabError, match="no kind of board 'toaster'"):
        Lab.up("kinds", (HostSpec("printer-1", (BoardSpec("main", kind="toaster"),)),), "10.92.0")


def test_every_kind_is_a_command() -> None:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    for kind in KINDS:
        arguments = parser.parse_args(["board", kind, "--pty", "a", "--flash", "b"])
        assert callable(arguments.run)
