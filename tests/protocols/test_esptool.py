"""Espressif's esptool, as a program of its own, judges the simulated ESP boards: it must not notice a difference."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.esp_image import build_app, build_layout
from tests.protocols.esp_board import MAC, EspDevice, field, wait_for

KINDS = ("esp32", "esp32s3", "esp32c3")
NAMES = {"esp32": "ESP32", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3"}
STUBS = ("", "1")  # esptool's own choice, which is its second stub, and the first one


@pytest.fixture(params=KINDS)
def board(request: pytest.FixtureRequest) -> Iterator[EspDevice]:
    """One of each kind, erased and in download mode."""
    device = EspDevice(request.param)
    yield device.download_mode()
    device.close()


@pytest.fixture
def esp32() -> Iterator[EspDevice]:
    device = EspDevice("esp32")
    yield device.download_mode()
    device.close()


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def content_at(board: EspDevice, offset: int, length: int) -> bytes:
    return board.flash.read_bytes()[offset : offset + length]


@pytest.mark.parametrize("stub", [True, False])
def test_esptool_finds_out_chip_mac_and_flash(board: EspDevice, stub: bool) -> None:
    output = board.esptool("flash-id", stub=stub)
    assert f"Detecting chip type... {NAMES[board.kind]}\n" in output
    assert field(output, "MAC") == MAC
    assert field(output, "Crystal frequency") == "40MHz"
    assert field(output, "Manufacturer") == "ef"
    assert field(output, "Device") == "4016"
    assert field(output, "Detected flash size") == "4MB"
    assert board.status("loader") == ("stub" if stub else "rom")


def test_esptool_reads_mac_and_chip_id(esp32: EspDevice) -> None:
    for command in ("read-mac", "chip-id"):
        output = esp32.download_mode().esptool(command, stub=False)
        assert set(re.findall(r"^MAC:\s*(\S+)$", output, re.MULTILINE)) == {MAC}


def test_espefuse_finds_the_mac_and_what_is_burnt(board: EspDevice) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "espefuse", "--port", str(board.tty), "--before", "no-reset", "summary"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"= {MAC} (" in result.stdout
    if board.kind == "esp32":
        # Only the first chip keeps a checksum of its MAC address.
        assert re.search(rf"= {MAC} \(CRC 0x.. OK\)", result.stdout)


def test_a_whole_layout_is_written_verified_and_boots(board: EspDevice, tmp_path: Path) -> None:
    layout = build_layout(board.kind, {"ota_1": build_app(board.kind, "v2.0.0", size=0x14000)}, slot=1)
    parts = []
    for offset, content in layout.parts.items():
        parts += [hex(offset), write(tmp_path / hex(offset), content)]
    output = board.esptool("write-flash", *parts)
    assert output.count("Hash of data verified.") == len(layout.parts)
    for offset, content in layout.parts.items():
        assert content_at(board, offset, len(content)) == content
    board.download_mode()
    assert "Verification successful" in board.esptool("verify-flash", *parts)
    board.do("tap")
    wait_for(lambda: board.status("mode") == "application")
    assert (board.status("version"), board.status("partition")) == ("v2.0.0", "ota_1")


@pytest.mark.parametrize("stub_version", STUBS)
@pytest.mark.parametrize("compression", ["--compress", "--no-compress"])
def test_every_stub_writes_over_what_was_there(
    esp32: EspDevice, tmp_path: Path, stub_version: str, compression: str
) -> None:
    app = build_app("esp32", "v1.0.0", size=0x20000)
    esp32.do("power", on=False)
    esp32.unplug()
    esp32.flash.write_bytes(bytes(0x40000))
    esp32.plug()
    esp32.download_mode()
    output = esp32.esptool(
        "write-flash", compression, "0x10000", write(tmp_path / "app", app), stub_version=stub_version
    )
    assert "Hash of data verified." in output
    assert ("legacy stub" in output) == (stub_version == "1")
    assert content_at(esp32, 0x10000, len(app)) == app
    assert content_at(esp32, 0, 0x10000) == bytes(0x10000)
    assert content_at(esp32, 0x30000, 0x10000) == bytes(0x10000)
    assert esp32.status("sectors_erased") == 0x20
    assert esp32.status("bytes_written") == len(app)


@pytest.mark.parametrize("compression", ["--compress", "--no-compress"])
def test_the_rom_writes_without_a_stub(board: EspDevice, tmp_path: Path, compression: str) -> None:
    data = build_app(board.kind, "v1.0.0", size=0x14000)[:0x2432]
    output = board.esptool("write-flash", compression, "0x10000", write(tmp_path / "data", data), stub=False)
    assert "Hash of data verified." in output
    assert content_at(board, 0x10000, len(data)) == data
    assert board.status("loader") == "rom"
    assert board.status("sectors_erased") == 3


@pytest.mark.parametrize("stub_version", STUBS)
def test_a_read_back_is_equal_byte_for_byte(tmp_path: Path, stub_version: str) -> None:
    content = build_layout("esp32s3", {"factory": build_app("esp32s3", "v1.0.0")}).merge()
    board = EspDevice("esp32s3", image=content)
    try:
        board.download_mode().esptool(
            "read-flash", "0x1234", "0x22222", str(tmp_path / "back"), stub_version=stub_version
        )
        assert (tmp_path / "back").read_bytes() == content[0x1234 : 0x1234 + 0x22222]
        board.download_mode().esptool("read-flash", "0x8000", "0x123", str(tmp_path / "slow"), stub=False)
        assert (tmp_path / "slow").read_bytes() == content[0x8000:0x8123]
    finally:
        board.close()


def test_an_erased_region_is_erased_and_nothing_else(tmp_path: Path) -> None:
    board = EspDevice("esp32", image=bytes(0x40000))
    try:
        board.download_mode().esptool("erase-region", "0x11000", "0x21000")
        content = board.flash.read_bytes()
        assert content[0x11000:0x32000] == b"\xff" * 0x21000
        assert not any(content[:0x11000]) and not any(content[0x32000:0x40000])
        # Two blocks of 64 KiB can't be erased at once here: 0x11000 to 0x20000 are sectors.
        assert board.status("sectors_erased") == 0x21
    finally:
        board.close()


def test_what_is_there_already_is_not_written_again(esp32: EspDevice, tmp_path: Path) -> None:
    same, new = b"same" * 0x1000, b"new!" * 0x1000
    esp32.esptool("write-flash", "0x10000", write(tmp_path / "same", same))
    erased, written = esp32.status("sectors_erased"), esp32.status("bytes_written")
    esp32.download_mode()
    output = esp32.esptool(
        "write-flash", "--skip-flashed", "0x10000", str(tmp_path / "same"), "0x20000", write(tmp_path / "new", new)
    )
    assert output.count("Hash of data verified.") == 1
    assert esp32.status("bytes_written") - written == len(new)
    assert esp32.status("sectors_erased") - erased == 4
    assert content_at(esp32, 0x20000, len(new)) == new


def test_verify_notices_a_single_bit(esp32: EspDevice, tmp_path: Path) -> None:
    data = bytes(range(256)) * 64
    esp32.esptool("write-flash", "0x20000", write(tmp_path / "data", data))
    esp32.download_mode()
    result = esp32.run_esptool(
        *("--before", "no-reset", "--after", "no-reset", "verify-flash", "0x20000"),
        write(tmp_path / "other", data[:-1] + b"\xfe"),
    )
    assert result.returncode != 0
    assert "Verification failed" in result.stdout


def test_esptool_notices_a_flipped_bit_after_writing_and_while_reading(esp32: EspDevice, tmp_path: Path) -> None:
    data = write(tmp_path / "data", b"data" * 0x400)
    esp32.do("fault", kind="corrupt", command="program", byte=0x10800)
    result = esp32.run_esptool("--before", "no-reset", "--after", "no-reset", "write-flash", "0x10000", data)
    assert result.returncode != 0
    assert "MD5 of file does not match data in flash" in result.stdout
    esp32.download_mode().do("fault", kind="corrupt", command="read", byte=0x10800)
    result = esp32.run_esptool(
        *("--before", "no-reset", "--after", "no-reset", "read-flash", "0x10000", "0x1000", str(tmp_path / "back"))
    )
    assert result.returncode != 0
    assert "Digest mismatch" in result.stdout


def test_esptool_writes_a_block_again_that_was_refused(esp32: EspDevice, tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    esp32.do("fault", kind="wrong_status", status=0xC1, command="program", byte=0x11000)
    output = esp32.esptool("write-flash", "--no-compress", "0x10000", write(tmp_path / "data", content))
    assert "Hash of data verified." in output
    assert content_at(esp32, 0x10000, len(content)) == content


@pytest.mark.parametrize("kind", ["esp32s3", "esp32c3"])
def test_security_info_says_what_is_burnt(kind: str) -> None:
    board = EspDevice(kind, "--secure-boot", "--flash-encryption")
    try:
        for stub in (False, True):
            output = board.download_mode().esptool("get-security-info", stub=stub)
            assert field(output, "Secure Boot") == "Enabled"
            assert field(output, "Flash Encryption") == "Enabled"
            assert "BLOCK_KEY0 - XTS_AES_128_KEY" in output
            assert field(output, "Chip ID") == {"esp32s3": "9", "esp32c3": "5"}[kind]
            # An S3 with secure boot starts no stub but by esptool's way around it; a C3 is not asked to.
            assert board.status("loader") == ("stub" if stub and kind == "esp32s3" else "rom")
    finally:
        board.close()


def test_security_info_of_a_chip_with_nothing_burnt(board: EspDevice) -> None:
    result = board.run_esptool("--before", "no-reset", "--after", "no-reset", "--no-stub", "get-security-info")
    if board.kind == "esp32":
        assert "This command (0x14) is not supported" in result.stdout
    else:
        assert field(result.stdout, "Secure Boot") == "Disabled"
        assert field(result.stdout, "Flash Encryption") == "Disabled"
        assert field(result.stdout, "Flags") == "0x00000000 (0b0)"


def test_in_secure_download_mode_only_writing_is_left(tmp_path: Path) -> None:
    board = EspDevice("esp32s3", "--secure-download")
    try:
        data = b"data" * 0x400
        result = board.download_mode().run_esptool(
            *("--chip", "esp32s3", "--before", "no-reset", "--after", "no-reset", "--no-stub"),
            *("write-flash", "--flash-size", "4MB", "0x10000", write(tmp_path / "data", data)),
        )
        assert result.returncode == 0, result.stdout
        assert content_at(board, 0x10000, len(data)) == data
        refused = board.download_mode().run_esptool(
            *("--chip", "esp32s3", "--before", "no-reset", "--after", "no-reset", "--no-stub"),
            *("read-flash", "0", "0x100", str(tmp_path / "back")),
        )
        assert refused.returncode != 0
        assert not (tmp_path / "back").exists()
    finally:
        board.close()


@pytest.mark.parametrize("kind", KINDS)
def test_esptool_resets_the_board_by_its_modem_lines(kind: str, tmp_path: Path) -> None:
    app = build_app(kind, "v3.1.4", size=0x14000)
    board = EspDevice(kind, image=build_layout(kind, {"factory": app}).merge())
    try:
        wait_for(lambda: board.status("mode") == "application")
        newer = write(tmp_path / "app", build_app(kind, "v3.2.0", size=0x14000))
        result = board.run_esptool("--baud", "921600", "write-flash", "0x10000", newer, preload=board.modem_shim())
        assert result.returncode == 0, result.stdout
        assert "was NOT reset" not in result.stdout
        assert "Hard resetting via RTS pin" in result.stdout
        wait_for(lambda: board.status("mode") == "application")
        assert (board.status("version"), board.status("resets")) == ("v3.2.0", 3)
    finally:
        board.close()


def test_without_the_circuit_modem_lines_do_nothing() -> None:
    board = EspDevice("esp32", "--entry", "button")
    try:
        result = board.run_esptool("--connect-attempts", "1", "chip-id", preload=board.modem_shim())
        assert result.returncode != 0
        assert "Failed to connect" in result.stdout
        assert board.status("mode") == "dead"
    finally:
        board.close()
