"""The simulated boards with Katapult keep to its protocol and to its rules of starting.

There is no packaged tool for it: frames are written out by hand from Katapult's command.h and protocol.md.
"""

import json
import os
import select
import signal
import struct
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from board_process import BoardProcess, Port, crc16, identify, klipper_block, wait_for

from fleetflash.lab.image import build_image

Plug = Callable[..., BoardProcess]
KIB = 1024
UID = "e66038b71353a32f"
REQUEST = b"~ \x1c Request Serial Bootloader!! ~"
UART, USB, RP2040 = "katapult-f103", "katapult-f446", "katapult-rp2040"
BASES = {UART: 0x0800_0000, USB: 0x0800_0000, RP2040: 0x1000_0000}
OFFSETS = {UART: 8 * KIB, USB: 32 * KIB, RP2040: 16 * KIB}
SIZES = {UART: 128 * KIB, USB: 512 * KIB, RP2040: 2048 * KIB}
MCUS = {UART: "stm32f103xe", USB: "stm32f446xx", RP2040: "rp2040"}
CONNECT = "01881100f17c9903"  # CRC as flashtool.py computes it


def application(kind: str, version: str = "v1") -> bytes:
    return build_image(version, mcu=MCUS[kind], base=BASES[kind] + OFFSETS[kind])


def factory(kind: str, version: str = "v1") -> bytes:
    return b"\xff" * OFFSETS[kind] + application(kind, version)


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    boards: list[BoardProcess] = []

    def start(kind: str, *options: str, flash: bytes | None = None) -> BoardProcess:
        boards.append(BoardProcess(kind, tmp_path / kind, "--uid", UID, *options, flash=flash))
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def device(board: BoardProcess) -> dict[str, Any]:
    """What the board is on USB just now; empty while it is nothing."""
    try:
        found: dict[str, Any] = json.loads((board.directory / "tty.usb").read_text())["device"]
    except FileNotFoundError:
        return {}
    return found


def wait_product(board: BoardProcess, product: str, timeout: float = 5.0) -> None:
    wait_for(lambda: device(board).get("product") == product and board.tty.exists(), timeout)


class Katapult:
    """A tester at the bootloader."""

    def __init__(self, kind: str, port: Port) -> None:
        self.start = BASES[kind] + OFFSETS[kind]
        self.port = port

    def __call__(self, code: int, payload: bytes = b"", timeout: float = 2.0) -> tuple[int, bytes]:
        """Code and payload of the answer, its frame checked; (0, b"") when there is none."""
        body = bytes([code, len(payload) // 4]) + payload
        self.port.write(b"\x01\x88" + body + struct.pack("<H", crc16(body)) + b"\x99\x03")
        head = self.port.read(timeout, 4)
        if len(head) < 4:
            return 0, b""
        rest = self.port.read(timeout, head[3] * 4 + 4)
        assert head[:2] == b"\x01\x88"
        assert rest[-4:] == struct.pack("<H", crc16(head[2:] + rest[:-4])) + b"\x99\x03"
        return head[2], rest[:-4]

    def ok(self, code: int, payload: bytes = b"") -> bytes:
        """The payload of an acknowledgement, without the command that it acknowledges."""
        answer, data = self(code, payload)
        assert answer == 0xA0, f"{answer:02x} {data.hex()}"
        assert data[:4] == struct.pack("<I", code)
        return data[4:]

    def write(self, offset: int, block: bytes) -> int:
        """The code of the answer to a block at this offset into the application's part."""
        return self(0x12, struct.pack("<I", self.start + offset) + block)[0]

    def write_image(self, image: bytes) -> int:
        """All blocks and the end; the number of pages that Katapult says it wrote."""
        for offset in range(0, len(image), 64):
            block = image[offset : offset + 64].ljust(64, b"\xff")
            answer = self.ok(0x12, struct.pack("<I", self.start + offset) + block)
            assert answer == struct.pack("<I", self.start + offset)
        return int(struct.unpack("<I", self.ok(0x13))[0])

    def read(self, offset: int) -> bytes:
        word = struct.pack("<I", self.start + offset)
        data = self.ok(0x14, word)
        assert data[:4] == word
        return data[4:]


@pytest.fixture
def uart(plug: Plug) -> BoardProcess:
    """A board that waits in Katapult, nothing behind it."""
    return plug(UART)


@pytest.fixture
def katapult(uart: BoardProcess) -> Iterator[Katapult]:
    time.sleep(0.03)
    with Port(uart.tty, 250000) as port:
        yield Katapult(UART, port)


# Frames


def test_golden_connect_frames(plug: Plug, uart: BoardProcess) -> None:
    """flashcmd.c, command_connect: version 1.1.0, application start, block size, and two names between zeros."""
    time.sleep(0.03)
    with Port(uart.tty, 250000) as port:
        name = b"stm32f103xe\0".hex() + "00000000" + b"v0.0.1-110-gb0bf421\0".hex()
        body = "a00d" + "11000000" + "00010100" + "00200008" + "40000000" + name
        crc = struct.pack("<H", crc16(bytes.fromhex(body))).hex()
        assert port.ask(CONNECT, 60) == "0188" + body + crc + "9903"


@pytest.mark.parametrize("kind", [UART, USB, RP2040])
def test_connect_tells_each_chips_application_start(plug: Plug, kind: str) -> None:
    board = plug(kind)
    time.sleep(0.03)
    with Port(board.tty, 250000) as port:
        data = Katapult(kind, port).ok(0x11)
    version, start, block = struct.unpack_from("<III", data)
    assert (version, start, block) == (0x10100, BASES[kind] + OFFSETS[kind], 64)
    assert data[12:].partition(b"\0")[0].decode() == MCUS[kind]


def test_unknown_commands_are_errors_and_bad_bytes_one_nack(katapult: Katapult) -> None:
    assert katapult(0x16) == (0xF2, b"")
    assert katapult(0x42, b"1234") == (0xF2, b"")
    nack = "0188f10068959903"
    # A stretch of bad bytes is answered once, whatever there is of it; then a frame is heard again.
    katapult.port.write(b"garbage, quite a lot of it, \x01\x88\x11\x00\xff\xff\x99\x03")
    assert katapult.port.read(0.2).hex() == nack
    assert len(katapult.ok(0x11)) == 48
    assert katapult.port.ask("01881100ffff9903", 8) == nack


def test_a_frame_in_pieces_and_two_in_one_write(katapult: Katapult) -> None:
    connect = bytes.fromhex(CONNECT)
    katapult.port.write(connect[:5])
    time.sleep(0.05)
    katapult.port.write(connect[5:])
    once = katapult.port.read(1, 60)
    assert len(once) == 60
    katapult.port.write(connect * 2)
    assert katapult.port.read(1, 120) == once * 2


def test_uart_is_deaf_at_another_rate(uart: BoardProcess, katapult: Katapult) -> None:
    katapult.port.serial.baudrate = 115200
    assert katapult(0x11, timeout=0.2) == (0, b"")


# Writing and reading


@pytest.mark.parametrize("kind", [UART, USB, RP2040])
def test_an_image_goes_in_comes_back_and_runs(plug: Plug, kind: str) -> None:
    board = plug(kind, "--bootloader", flash=factory(kind, "v0.11.0"))
    image = application(kind, "v0.12.0")
    time.sleep(0.03)
    with Port(board.tty, 250000) as port:
        katapult = Katapult(kind, port)
        started = time.monotonic()
        page = {UART: KIB, USB: 16 * KIB, RP2040: 256}[kind]
        assert katapult.write_image(image) == -(-len(image) // page)
        written = time.monotonic() - started
        assert b"".join(katapult.read(offset) for offset in range(0, len(image), 64)) == image
        print(f"{kind}: 30 KiB written in {written:.2f} s, read in {time.monotonic() - started - written:.2f} s")
        assert katapult.ok(0x15) == b""
    offset = OFFSETS[kind]
    assert board.flash()[offset : offset + len(image)] == image
    wait_for(lambda: board.mode == "application")
    if kind != UART:
        wait_product(board, "614e")
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        dictionary = identify(port)
    assert dictionary["version"] == "v0.12.0"
    assert dictionary["config"]["MCU"] == MCUS[kind]


def test_blocks_below_the_application_of_another_length_or_out_of_line_are_errors(katapult: Katapult) -> None:
    assert katapult.write(-64, bytes(64)) == 0xF2
    assert katapult.write(0, bytes(60)) == 0xF2
    assert katapult.write(4, bytes(64)) == 0xF2
    assert katapult.write(120 * KIB, bytes(64)) == 0xF2
    assert katapult.write(120 * KIB - 64, bytes(64)) == 0xA0


def test_stm32_erases_a_page_with_its_first_block_and_refuses_others_over_what_is_there(plug: Plug) -> None:
    board = plug(UART, "--bootloader", flash=b"\x55" * 128 * KIB)
    time.sleep(0.03)
    with Port(board.tty, 250000) as port:
        katapult = Katapult(UART, port)
        assert katapult.write(64, bytes(64)) == 0xF2
        assert katapult.write(64, b"\x55" * 64) == 0xA0
        assert katapult.write(0, bytes(64)) == 0xA0
        assert katapult.write(0, bytes(64)) == 0xA0
        assert katapult.write(64, bytes(range(64))) == 0xA0
        assert katapult.write(64, bytes(64)) == 0xF2
        # The first block of a page that holds more erases it again.
        assert katapult.write(0, b"\x77" * 64) == 0xA0
    assert board.flash()[8 * KIB : 9 * KIB] == b"\x77" * 64 + b"\xff" * 960
    assert board.flash()[9 * KIB :] == b"\x55" * (119 * KIB)


def test_rp2040_keeps_a_page_in_ram_until_the_next_one_or_the_end(plug: Plug) -> None:
    board = plug(RP2040)
    time.sleep(0.03)
    start = 16 * KIB
    with Port(board.tty) as port:
        katapult = Katapult(RP2040, port)
        for block in range(4):
            assert katapult.write(64 * block, bytes([block + 1]) * 64) == 0xA0
        assert board.flash()[start : start + 256] == b"\xff" * 256
        assert katapult.write(256, b"\x05" * 64) == 0xA0
        page = b"".join(bytes([block + 1]) * 64 for block in range(4))
        assert board.flash()[start : start + 512] == page + b"\xff" * 256
        assert struct.unpack("<I", katapult.ok(0x13)) == (2,)
        assert board.flash()[start : start + 512] == page + b"\x05" * 64 + b"\xff" * 192


def test_own_code_can_be_read_and_reading_nowhere_hangs_it(uart: BoardProcess, katapult: Katapult) -> None:
    assert katapult.read(-8 * KIB) == uart.flash()[:64]
    assert katapult(0x14, struct.pack("<I", 0x4000_0000), timeout=0.3) == (0, b"")
    assert katapult(0x11, timeout=0.3) == (0, b"")
    uart.do("tap")
    time.sleep(0.03)
    assert len(katapult.ok(0x11)) == 48


# Entering and leaving


def test_without_an_application_it_waits_in_katapult(uart: BoardProcess) -> None:
    assert uart.mode == "bootloader"


def test_the_request_string_enters_from_the_running_application(plug: Plug) -> None:
    board = plug(UART, flash=factory(UART))
    assert board.mode == "application"
    time.sleep(0.6)
    with Port(board.tty, 115200) as port:
        # A UART at another rate hears nothing of it.
        port.write(REQUEST)
        time.sleep(0.2)
        assert board.mode == "application"
        port.serial.baudrate = 250000
        port.write(klipper_block(0, b"\x01\x00\x28") + REQUEST)
        wait_for(lambda: board.mode == "bootloader")
        port.read(0.05)
        assert len(Katapult(UART, port).ok(0x11)) == 48


def test_a_running_application_ignores_what_is_only_like_the_request(plug: Plug) -> None:
    board = plug(UART, flash=factory(UART))
    time.sleep(0.6)
    with Port(board.tty, 250000) as port:
        port.write(REQUEST[:-1].lower() + b"~")
        time.sleep(0.2)
        assert board.mode == "application"


@pytest.mark.parametrize("kind", [USB, RP2040])
def test_entering_and_leaving_changes_the_usb_device_and_its_port(plug: Plug, kind: str) -> None:
    board = plug(kind, flash=factory(kind))
    wait_product(board, "614e")
    serial = UID.upper() if kind == RP2040 else UID.upper() + "00000000"
    assert device(board) == {
        "vendor": "1d50",
        "product": "614e",
        "manufacturer": "Klipper",
        "name": MCUS[kind],
        "serial": serial,
    }
    with Port(board.tty, 250000) as port:
        time.sleep(0.3)
        port.write(REQUEST)
        # Whoever holds the old port reads its end; its name is gone.
        assert select.select([port.fd], [], [], 3)[0]
        while os.read(port.fd, 4096):
            pass
        with pytest.raises(OSError):
            os.write(port.fd, b"x")
        wait_product(board, "6177")
    assert device(board)["manufacturer"] == "katapult"
    assert device(board)["serial"] == serial
    assert board.status("port") == str(board.tty.readlink())
    with Port(board.tty, 9600) as port:
        katapult = Katapult(kind, port)
        assert len(katapult.ok(0x11)) >= 36
        resets = board.status("resets")
        katapult.ok(0x15)
        wait_product(board, "614e")
        assert board.status("resets") == resets + 1
    assert board.mode == "application"


def test_closing_the_port_at_1200_baud_enters(plug: Plug) -> None:
    board = plug(USB, flash=factory(USB))
    wait_product(board, "614e")
    time.sleep(0.3)
    with Port(board.tty, 115200):
        pass
    time.sleep(0.1)
    assert board.mode == "application"
    with Port(board.tty, 1200):
        time.sleep(0.1)
        assert board.mode == "application"
    wait_product(board, "6177")
    # Katapult itself knows no touch.
    with Port(board.tty, 1200):
        pass
    time.sleep(0.2)
    assert device(board)["product"] == "6177"


def test_1200_baud_without_hanging_up_does_not_enter(plug: Plug) -> None:
    board = plug(USB, flash=factory(USB))
    wait_product(board, "614e")
    fd = os.open(board.tty, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    flags = termios.tcgetattr(fd)
    flags[2] &= ~termios.HUPCL
    flags[4] = flags[5] = termios.B1200
    termios.tcsetattr(fd, termios.TCSANOW, flags)
    os.close(fd)
    time.sleep(0.2)
    assert board.mode == "application"


def test_two_resets_in_half_a_second_enter_and_two_slow_ones_do_not(plug: Plug) -> None:
    board = plug(UART, flash=factory(UART))
    time.sleep(0.7)
    board.do("tap")
    time.sleep(0.8)
    board.do("tap")
    assert board.mode == "application"
    time.sleep(0.1)
    board.do("tap")
    assert board.mode == "bootloader"
    board.do("tap")
    assert board.mode == "application"


def test_the_application_starts_half_a_second_after_a_reset_but_at_once_from_katapult(plug: Plug) -> None:
    board = plug(UART, "--bootloader", flash=factory(UART))
    time.sleep(0.03)
    with Port(board.tty, 250000) as port:
        Katapult(UART, port).ok(0x15)
        wait_for(lambda: board.mode == "application")
        port.read(0.05)
        assert identify(port)["version"] == "v1"
        board.do("tap")
        port.write(klipper_block(0, b""))
        assert port.read(0.3) == b""
        wait_for(lambda: "mode application" in board.log())
        time.sleep(0.3)
        assert identify(port)["version"] == "v1"


def test_klippers_reset_command_brings_a_usb_board_back_as_itself(plug: Plug) -> None:
    board = plug(RP2040, flash=factory(RP2040))
    wait_product(board, "614e")
    with Port(board.tty) as port:
        number = identify(port)["commands"]["reset"]
        resets = board.status("resets")
        for sequence in range(16):
            port.write(klipper_block(sequence, bytes([number])))
        wait_for(lambda: board.status("resets") == resets + 1)
        assert device(board) == {}
        wait_product(board, "614e")


def test_a_half_written_image_is_started_all_the_same_and_only_two_resets_help(plug: Plug) -> None:
    """armcm_canboot.c, application_check_valid: the first word is all that is looked at."""
    board = plug(UART, flash=factory(UART)[: 20 * KIB])
    time.sleep(0.6)
    assert board.mode == "dead"
    board.do("tap")
    assert board.mode == "dead"
    time.sleep(0.1)
    board.do("tap")
    assert board.mode == "bootloader"


def test_an_image_linked_to_another_offset_does_not_run(plug: Plug) -> None:
    board = plug(UART, flash=b"\xff" * 8 * KIB + build_image("v1", mcu="stm32f103xe"))
    assert board.mode == "dead"


def test_a_usb_board_without_power_is_no_device(plug: Plug) -> None:
    board = plug(RP2040, flash=factory(RP2040))
    wait_product(board, "614e")
    board.do("power", on=False)
    assert device(board) == {}
    assert not board.tty.exists()
    board.do("power", on=True)
    wait_product(board, "614e")


# Faults


def test_a_board_killed_while_writing_keeps_what_was_written(uart: BoardProcess, katapult: Katapult) -> None:
    uart.do("pause", command="program", byte=8 * KIB + 640)
    for block in range(10):
        assert katapult.write(64 * block, b"\x11" * 64) == 0xA0
    assert katapult(0x12, struct.pack("<I", katapult.start + 640) + bytes(64), timeout=0.2) == (0, b"")
    assert uart.do("wait_paused", timeout=3)["paused"]
    uart.stop(signal.SIGKILL)
    assert uart.flash()[8 * KIB :] == b"\x11" * 640 + b"\xff" * (120 * KIB - 640)


def test_power_cut_and_wrong_answers(uart: BoardProcess, katapult: Katapult) -> None:
    uart.do("fault", kind="wrong_status", command="program", status=0xF1)
    assert katapult.write(0, bytes(64)) == 0xF1
    uart.do("fault", kind="drop_reply", command="program")
    assert katapult(0x12, struct.pack("<I", katapult.start) + b"\x11" * 64, timeout=0.2) == (0, b"")
    assert uart.flash()[8 * KIB :][:65] == b"\x11" * 64 + b"\xff"
    uart.do("fault", kind="corrupt", command="read")
    katapult.port.write(bytes.fromhex(CONNECT))
    assert len(katapult.port.read(1, 60)) == 60
    with pytest.raises(AssertionError):
        katapult.read(0)
    uart.do("fault", kind="power_cut", command="program", byte=8 * KIB + 100)
    assert katapult(0x12, struct.pack("<I", katapult.start + 64) + b"\x22" * 64, timeout=0.2) == (0, b"")
    assert uart.mode == "off"
    assert uart.flash()[8 * KIB :][:128] == b"\x11" * 64 + b"\x22" * 36 + b"\xff" * 28


def test_corrupt_write_is_noticed_by_katapult_on_stm32(uart: BoardProcess, katapult: Katapult) -> None:
    """flash.c compares what it wrote; on an RP2040, which does not, reading back finds it."""
    uart.do("fault", kind="corrupt", command="program", byte=8 * KIB + 7)
    assert katapult.write(0, bytes(64)) == 0xF2


def test_refused_request_stays_in_the_application(plug: Plug) -> None:
    board = plug(USB, flash=factory(USB))
    wait_product(board, "614e")
    board.do("fault", kind="refuse_bootloader")
    resets = board.status("resets")
    with Port(board.tty) as port:
        time.sleep(0.3)
        port.write(REQUEST)
        wait_for(lambda: board.status("resets") == resets + 1)
    wait_product(board, "614e")
    assert board.mode == "application"
