"""The simulated ESP boards keep to the serial protocol, to NOR flash, to the reset circuit, and to their faults.

Frames are written out here from "Serial Protocol" (esptool documentation) and from published ``esptool --trace`` logs.
"""

import hashlib
import select
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import serial

from fleetflash.lab.esp_image import build_app, build_layout
from tests.protocols.esp_board import MAC, EspDevice, wait_for

Plug = Callable[..., EspDevice]

SYNC = b"\x07\x07\x12\x20" + b"\x55" * 32
SYNC_ANSWER = bytes.fromhex("c0010804000707122000000000c0")
OK = b"\0\0\0\0"
TIOCMSET = 0x5418
DTR, RTS = 0x002, 0x004
STUB_ENTRY = 0x400BE010
FLASH_BEGIN, FLASH_DATA, FLASH_END, DEFL_BEGIN, DEFL_DATA = 0x02, 0x03, 0x04, 0x10, 0x11
READ_REG, ATTACH, SET_PARAMS, BAUD, MD5 = 0x0A, 0x0D, 0x0B, 0x0F, 0x13


@pytest.fixture
def plug() -> Iterator[Plug]:
    boards: list[EspDevice] = []

    def start(kind: str = "esp32", *options: str, image: bytes = b"") -> EspDevice:
        boards.append(EspDevice(kind, *options, image=image))
        return boards[-1]

    yield start
    for board in boards:
        board.close()


class Wire:
    """A tester's serial port."""

    def __init__(self, board: EspDevice, baud: int = 115200) -> None:
        self.serial = serial.Serial(str(board.tty), baud, timeout=0)
        self._buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.serial.close()

    def read_until(self, done: Callable[[bytes], bool], timeout: float = 10.0) -> bytes:
        """Everything up to where ``done`` is content; fails when that does not happen."""
        deadline = time.monotonic() + timeout
        while not done(self._buffer):
            left = deadline - time.monotonic()
            assert left > 0, f"only {self._buffer!r}"
            if select.select([self.serial.fileno()], [], [], left)[0]:
                self._buffer += self.serial.read(65536)
        result, self._buffer = self._buffer, b""
        return result

    def silence(self, seconds: float) -> bytes:
        """What comes within a time: nothing, if all is well."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.serial.fileno()], [], [], left)[0]:
                self._buffer += self.serial.read(65536)
        result, self._buffer = self._buffer, b""
        return result

    def text(self, last: str, timeout: float = 10.0) -> str:
        """Lines up to one that contains ``last``."""
        end = last.encode()
        return self.read_until(lambda data: end in data and data.endswith(b"\n"), timeout).decode()

    def packet(self, timeout: float = 10.0) -> bytes:
        """The next SLIP packet, without its delimiters and escapes."""
        deadline = time.monotonic() + timeout
        while self._buffer.count(b"\xc0") < 2:
            left = deadline - time.monotonic()
            assert left > 0, f"no packet, only {self._buffer!r}"
            if select.select([self.serial.fileno()], [], [], left)[0]:
                self._buffer += self.serial.read(65536)
        junk, _, rest = self._buffer.partition(b"\xc0")
        assert junk == b""
        body, _, self._buffer = rest.partition(b"\xc0")
        return body.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")

    def send(self, command: int, data: bytes = b"", check: int = 0) -> None:
        self.raw(struct.pack("<BBHI", 0, command, len(data), check) + data)

    def raw(self, payload: bytes) -> None:
        self.serial.write(b"\xc0" + payload.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def ask(self, command: int, data: bytes = b"", check: int = 0) -> tuple[int, bytes]:
        """Value and data of the answer."""
        self.send(command, data, check)
        packet = self.packet()
        direction, echoed, length, value = struct.unpack_from("<BBHI", packet)
        assert (direction, echoed, length) == (1, command, len(packet) - 8), packet.hex()
        return value, packet[8:]

    def ask_words(self, command: int, *words: int) -> bytes:
        return self.ask(command, struct.pack(f"<{len(words)}I", *words))[1]

    def data(self, command: int, number: int, payload: bytes) -> bytes:
        check = 0xEF
        for value in payload:
            check ^= value
        return self.ask(command, struct.pack("<4I", len(payload), number, 0, 0) + payload, check)[1]

    def sync(self) -> None:
        self.send(0x08, SYNC)
        answers = self.read_until(lambda data: len(data) >= 8 * len(SYNC_ANSWER))
        assert answers == 8 * SYNC_ANSWER

    def start_stub(self, content: bytes = b"\x36\x41\x00" * 100) -> None:
        """Download a piece of "code" to instruction RAM and jump into it."""
        assert self.ask_words(0x05, len(content), 1, 0x1800, STUB_ENTRY - 16) == OK
        assert self.data(0x07, 0, content) == OK
        assert self.ask_words(0x06, 0, STUB_ENTRY) == OK
        assert self.packet() == b"OHAI"


def download(board: EspDevice, baud: int = 115200) -> Wire:
    """A wire to a board whose ROM has just said that it waits."""
    wire = Wire(board)
    board.download_mode()
    wire.read_until(lambda data: data.endswith(b"waiting for download\r\n"))
    wire.serial.baudrate = baud
    return wire


def rom(board: EspDevice) -> Wire:
    """A wire to a ROM loader that has been synchronized and knows its flash."""
    wire = download(board)
    wire.sync()
    assert wire.ask_words(ATTACH, 0, 0) == OK
    return wire


def stub(board: EspDevice) -> Wire:
    wire = rom(board)
    wire.start_stub()
    return wire


def lines(board: EspDevice, *states: int) -> None:
    """Set DTR and RTS to each of these states in turn, at the pace of the board and not of this machine."""
    with socket.socket(socket.AF_UNIX) as wires:
        wires.settimeout(20)
        wires.connect(str(board.lines))
        wires.sendall(b"".join(struct.pack("<II", TIOCMSET, state) for state in states))
        for _ in states:
            wires.recv(4, socket.MSG_WAITALL)


# Frames


def test_sync_is_answered_eight_times_with_its_own_first_word(plug: Plug) -> None:
    with download(plug()) as wire:
        wire.sync()


def test_registers_are_answered_as_real_chips_do(plug: Plug) -> None:
    with rom(plug()) as wire:
        wire.serial.write(bytes.fromhex("c0000a04000000000000100040c0"))
        assert wire.packet() == bytes.fromhex("010a0400831df00000000000")
        # Other answers repeat the value that was read last.
        wire.send(ATTACH, bytes(8))
        assert wire.packet() == bytes.fromhex("010d0400831df00000000000")


def test_security_info_has_the_length_of_real_chips(plug: Plug) -> None:
    with rom(plug("esp32c3")) as wire:
        wire.send(0x14)
        packet = wire.packet()
        assert packet[:4] == bytes.fromhex("01141800")
        assert packet[8:] == bytes.fromhex("00000000000000000000000c050000000000000000000000")


def test_the_mac_is_in_the_efuses(plug: Plug) -> None:
    mac = bytes.fromhex(MAC.replace(":", ""))
    with rom(plug()) as wire:
        low, _ = wire.ask(READ_REG, struct.pack("<I", 0x3FF5A004))
        high, _ = wire.ask(READ_REG, struct.pack("<I", 0x3FF5A008))
    assert (high & 0xFFFF).to_bytes(2, "big") + low.to_bytes(4, "big") == mac
    # CRC-8 of Dallas/Maxim, bit by bit.
    crc = 0
    for bit in (value >> place & 1 for value in mac for place in range(8)):
        crc = crc >> 1 ^ (0x8C if (crc ^ bit) & 1 else 0)
    assert high >> 16 == crc


def test_an_unknown_command_is_refused_eight_times(plug: Plug) -> None:
    with rom(plug()) as wire:
        wire.send(0xD0)
        packets = [wire.packet() for _ in range(8)]
        assert {packet[8:] for packet in packets} == {bytes.fromhex("01050000")}
        assert wire.ask(READ_REG, struct.pack("<I", 0x40001000))[0] == 0x00F01D83


@pytest.mark.parametrize("command", [FLASH_BEGIN, READ_REG, 0x05, 0x06, 0x13])
def test_a_request_that_is_too_short_is_invalid(plug: Plug, command: int) -> None:
    with rom(plug()) as wire:
        assert wire.ask(command, b"\0\0")[1] == bytes.fromhex("01050000")


def test_slip_escapes_are_made_and_understood(plug: Plug) -> None:
    with rom(plug()) as wire:
        wire.serial.write(bytes.fromhex("c0 00091000 00000000 dbdcdbdd0140 01dbdc02dbdd ffffffff00000000 c0"))
        assert wire.packet()[8:] == OK
        wire.serial.write(bytes.fromhex("c0 000a0400 00000000 dbdcdbdd0140 c0"))
        wire.read_until(lambda data: data == bytes.fromhex("c0010a040001dbdc02dbdd00000000c0"))


def test_noise_between_packets_is_skipped(plug: Plug) -> None:
    with rom(plug()) as wire:
        wire.serial.write(b"noise\xc0\xc0\x00\x0a\xdb\x01\xc0" + b"more")
        assert wire.ask(READ_REG, struct.pack("<I", 0x40001000))[0] == 0x00F01D83


def test_the_rom_measures_the_rate_from_sync(plug: Plug) -> None:
    with download(plug(), 230400) as wire:
        wire.sync()
        assert wire.ask(READ_REG, struct.pack("<I", 0x3FF40014))[0] == round(40_000_000 / 230400)


def test_the_rate_changes_after_the_answer(plug: Plug) -> None:
    with stub(plug()) as wire:
        assert wire.ask_words(BAUD, 921600, 115200) == b"\0\0"
        wire.send(READ_REG, struct.pack("<I", 0x40001000))
        assert wire.silence(0.2) == b""
        wire.serial.baudrate = 921600
        assert wire.ask(READ_REG, struct.pack("<I", 0x40001000))[0] == 0x00F01D83


def test_requests_that_come_in_while_the_chip_works_are_answered_in_turn(plug: Plug) -> None:
    with stub(plug()) as wire:
        for size in (0x40000, 0x10, 0x20):
            wire.send(MD5, struct.pack("<4I", 0, size, 0, 0))
        for size in (0x40000, 0x10, 0x20):
            assert wire.packet()[8:24] == hashlib.md5(b"\xff" * size).digest()


def test_flash_can_not_be_reached_before_it_is_attached(plug: Plug) -> None:
    with download(plug()) as wire:
        wire.sync()
        assert wire.ask_words(MD5, 0, 16, 0, 0) == bytes.fromhex("01060000")
        assert wire.ask_words(ATTACH, 0, 0) == OK
        expected = hashlib.md5(b"\xff" * 16).hexdigest().encode()
        assert wire.ask_words(MD5, 0, 16, 0, 0) == expected + OK


def test_a_stub_starts_only_where_code_was_downloaded_completely(plug: Plug) -> None:
    board = plug()
    with rom(board) as wire:
        assert wire.ask_words(0x05, 100, 1, 0x1800, STUB_ENTRY) == OK
        assert wire.data(0x07, 0, bytes(96)) == OK
        assert wire.ask_words(0x06, 0, STUB_ENTRY) == OK
        assert wire.silence(0.3) == b""
    with rom(board) as wire:
        assert wire.ask_words(0x05, 4, 1, 0x1800, STUB_ENTRY) == OK
        assert wire.ask(0x07, struct.pack("<4I", 4, 0, 0, 0) + b"code", 0x11)[1] == bytes.fromhex("01070000")


def test_the_stub_answers_with_two_status_bytes_and_value_zero(plug: Plug) -> None:
    with stub(plug()) as wire:
        wire.send(0x08, SYNC)
        answer = bytes.fromhex("c001080200000000000000c0")
        assert wire.read_until(lambda data: len(data) >= 8 * len(answer)) == 8 * answer
        wire.send(0x99)
        assert wire.packet() == bytes.fromhex("019902000000000001c3")
        digest = hashlib.md5(b"\xff" * 16).digest()
        assert wire.ask_words(MD5, 0, 16, 0, 0) == digest + b"\0\0"


def test_the_stub_reads_one_packet_at_a_time(plug: Plug) -> None:
    content = bytes(range(256)) * 40
    with stub(plug(image=content)) as wire:
        assert wire.ask_words(0xD2, 0, 0x2800, 0x1000, 64) == b"\0\0"
        received = wire.packet()
        assert received == content[:0x1000]
        assert wire.silence(0.2) == b""
        while len(received) < 0x2800:
            wire.raw(struct.pack("<I", len(received)))
            received += wire.packet()
        assert received == content[:0x2800]
        wire.raw(struct.pack("<I", len(received) - 1))
        assert wire.silence(0.2) == b""
        wire.raw(struct.pack("<I", len(received)))
        assert wire.packet() == hashlib.md5(content[:0x2800]).digest()
        assert wire.ask(READ_REG, struct.pack("<I", 0x40001000))[0] == 0x00F01D83


# Flash


def test_the_stub_erases_whole_sectors_just_ahead_of_what_it_writes(plug: Plug) -> None:
    board = plug(image=b"\xf0" * 0x4000)
    with stub(board) as wire:
        assert wire.ask_words(FLASH_BEGIN, 0x1400, 2, 0xA00, 0x1800) == b"\0\0"
        assert wire.data(FLASH_DATA, 0, b"\x55" * 0xA00) == b"\0\0"
        # The next answer comes when the write is done. Nothing but what was reached is erased yet.
        expected = b"\xff" * 0x800 + b"\x55" * 0xA00 + b"\xff" * 0xE00 + b"\xf0" * 0x1000
        assert wire.ask_words(MD5, 0x1000, 0x3000, 0, 0) == hashlib.md5(expected).digest() + b"\0\0"
        assert wire.data(FLASH_DATA, 1, b"\x55" * 0xA00) == b"\0\0"
        assert wire.ask_words(FLASH_END, 1) == b"\0\0"
    expected = b"\xff" * 0x800 + b"\x55" * 0x1400 + b"\xff" * 0x400 + b"\xf0" * 0x1000
    assert board.flash.read_bytes()[:0x4000] == b"\xf0" * 0x1000 + expected


def test_the_rom_notices_that_flash_was_not_erased(plug: Plug) -> None:
    board = plug(image=b"\xf0" * 0x2000)
    with rom(board) as wire:
        # Half a sector is announced at its start; the ROM erases it whole, and nothing beyond.
        assert wire.ask_words(FLASH_BEGIN, 0x800, 3, 0x800, 0) == OK
        assert wire.data(FLASH_DATA, 0, b"\x3c" * 0x800) == OK
        assert wire.data(FLASH_DATA, 1, b"\x3c" * 0x800) == OK
        assert wire.data(FLASH_DATA, 2, b"\x3c" * 0x7FF + b"\x0f") == bytes.fromhex("01080000")
        # Programming clears bits and sets none: the AND of both, as the MD5 tells.
        expected = b"\x3c" * 0x1000 + b"\x30" * 0x7FF + b"\0" + b"\xf0" * 0x800
        assert wire.ask_words(MD5, 0, 0x2000, 0, 0) == hashlib.md5(expected).hexdigest().encode() + OK
    assert board.flash.read_bytes()[:0x2000] == expected


def test_addresses_wrap_at_the_end_of_the_chip(plug: Plug) -> None:
    board = plug("esp32", "--flash-size", "1", image=b"\0" * 0x2000)
    with stub(board) as wire:
        assert wire.ask_words(FLASH_BEGIN, 0x1000, 1, 0x1000, 0x101000) == b"\0\0"
        assert wire.data(FLASH_DATA, 0, b"\x42" * 0x1000) == b"\0\0"
        assert wire.ask_words(MD5, 0, 0x1000, 0, 0)[-2:] == b"\0\0"
    assert board.flash.read_bytes()[:0x2000] == b"\0" * 0x1000 + b"\x42" * 0x1000


def test_an_erase_takes_its_time_and_a_power_cut_leaves_it_half_done(plug: Plug) -> None:
    board = plug(image=bytes(0x100000))
    with stub(board) as wire:
        wire.send(0xD1, struct.pack("<II", 0x1000, 0xFE000))
        wait_for(lambda: board.status("sectors_erased") >= 3)
        board.unplug()
    content = board.flash.read_bytes()
    erased = content[0x1000:].find(b"\0")
    assert 0x3000 <= erased < 0xFE000
    assert erased % 0x1000 == 0
    assert not any(content[:0x1000]) and not any(content[0x1000 + erased : 0x100000])
    board.plug()
    assert board.flash.read_bytes() == content


def test_deflated_data_is_inflated_and_garbage_is_refused(plug: Plug) -> None:
    board = plug()
    data = bytes(range(256)) * 16
    packed = zlib.compress(data)
    with stub(board) as wire:
        assert wire.ask_words(DEFL_BEGIN, len(data), 2, 64, 0x3000) == b"\0\0"
        for number in range(0, len(packed), 64):
            assert wire.data(DEFL_DATA, number // 64, packed[number : number + 64]) == b"\0\0"
        assert wire.ask_words(MD5, 0x3000, len(data), 0, 0) == hashlib.md5(data).digest() + b"\0\0"
        assert wire.ask_words(DEFL_BEGIN, 64, 1, 64, 0x5000) == b"\0\0"
        # The stub has answered before it looks: the next answer tells.
        assert wire.data(DEFL_DATA, 0, b"garbage") == b"\0\0"
        assert wire.ask_words(MD5, 0, 16, 0, 0) == b"\x01\xc7"
        assert wire.ask_words(MD5, 0, 16, 0, 0)[-2:] == b"\0\0"
    with rom(board) as wire:
        assert wire.ask_words(DEFL_BEGIN, 64, 1, 64, 0x5000) == OK
        assert wire.data(DEFL_DATA, 0, b"garbage") == bytes.fromhex("010b0000")


def test_a_wrong_checksum_writes_nothing(plug: Plug) -> None:
    board = plug()
    for loader, error in ((rom, "01070000"), (stub, "01c1")):
        with loader(board) as wire:
            assert not any(wire.ask_words(FLASH_BEGIN, 4, 1, 4, 0))
            assert wire.ask(FLASH_DATA, struct.pack("<4I", 4, 0, 0, 0) + b"data", 0)[1] == bytes.fromhex(error)
    assert board.flash.read_bytes()[:4] == b"\xff" * 4


def test_two_boards_do_not_share_a_flash_file(plug: Plug) -> None:
    board = plug()
    other = board.directory / "other"
    result = subprocess.run(
        [sys.executable, "-m", "fleetflash", "board", "esp32", "--pty", str(other), "--flash", str(board.flash)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == f"board esp32 at {other}: {board.flash}: another board is using this flash file\n"


# Reset and boot


def test_the_truth_table_of_the_reset_circuit(plug: Plug) -> None:
    board = plug()
    lines(board, RTS)
    assert board.status("in_reset")
    lines(board, DTR | RTS)
    assert not board.status("in_reset")
    # IO0 is high with both asserted: what is in flash starts, which here is nothing.
    wait_for(lambda: board.status("mode") == "dead")
    lines(board, RTS, 0)
    wait_for(lambda: board.status("mode") == "dead")
    lines(board, RTS, DTR)
    wait_for(lambda: board.status("mode") == "bootloader")
    resets = board.status("resets")
    lines(board, DTR | RTS, 0, DTR, DTR | RTS, DTR, 0)
    assert (board.status("resets"), board.status("mode")) == (resets, "bootloader")


def test_lines_set_one_after_the_other_enter_download_mode_too(plug: Plug) -> None:
    board = plug()
    # RTS, then DTR (both: EN rises already), then RTS off within the time that EN takes.
    lines(board, 0, RTS)
    lines(board, DTR | RTS, DTR)
    wait_for(lambda: board.status("mode") == "bootloader")


@pytest.mark.parametrize(
    ("kind", "banner"),
    [
        (
            "esp32",
            "ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),"
            "boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))\r\nwaiting for download\r\n",
        ),
        (
            "esp32s3",
            "ESP-ROM:esp32s3-20210327\r\nBuild:Mar 27 2021\r\nrst:0x1 (POWERON),"
            "boot:0x0 (DOWNLOAD(USB/UART0))\r\nwaiting for download\r\n",
        ),
        (
            "esp32c3",
            "ESP-ROM:esp32c3-api1-20210207\r\nBuild:Feb  7 2021\r\nrst:0x1 (POWERON),"
            "boot:0x4 (DOWNLOAD(USB/UART0/1))\r\nwaiting for download\r\n",
        ),
    ],
)
def test_download_mode_says_so(plug: Plug, kind: str, banner: str) -> None:
    board = plug(kind)
    lines(board, RTS)
    with Wire(board) as wire:
        wire.serial.reset_input_buffer()
        lines(board, DTR)
        assert wire.text("waiting for download") == banner


def test_an_application_boots_with_its_log(plug: Plug) -> None:
    app = build_app("esp32", "v1.2.3", project="weather", lines=((5, "I (400) weather: one"), (30, "two")))
    board = plug(image=build_layout("esp32", {"factory": app}).merge())
    with Wire(board) as wire:
        wire.silence(0.05)
        board.do("tap")
        wire.silence(0.005)
        found = wire.text("two")
    wanted = (
        "ets Jul 29 2019 12:21:46\r\n",
        "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n",
        "mode:DIO, clock div:1\r\n",
        "load:0x3fff0030,len:4176\r\n",
        "entry 0x40078000\r\n",
        "boot: ESP-IDF v5.3.1 2nd stage bootloader\r\n",
        "boot: ## Label            Usage          Type ST Offset   Length\r\n",
        "boot:  0 nvs              WiFi data        01 02 00009000 00004000\r\n",
        "boot:  3 factory          factory app      00 00 00010000 00100000\r\n",
        "boot: End of partition table\r\n",
        "esp_image: segment 0: paddr=00010020 vaddr=3f400020 size=04000h ( 16384)\r\n",
        "boot: Loaded app from partition at offset 0x10000\r\n",
        "app_init: Project name:     weather\r\n",
        "app_init: App version:      v1.2.3\r\n",
        "main_task: Calling app_main()\r\n",
        "I (400) weather: one\r\n",
        "two\r\n",
    )
    places = [found.find(line) for line in wanted]
    assert -1 not in places, wanted[places.index(-1)]
    assert places == sorted(places)
    assert board.status("mode") == "application"


def test_an_empty_flash_is_tried_again_and_again(plug: Plug) -> None:
    board = plug("esp32s3")
    with Wire(board) as wire:
        found = wire.read_until(lambda data: data.count(b"rst:0x10 (RTCWDT_RTC_RST)") >= 2).decode()
    assert found.count("invalid header: 0xffffffff\r\n") >= 7
    assert board.status("mode") == "dead"


def test_a_bootloader_with_a_flipped_bit_is_not_started(plug: Plug) -> None:
    image = bytearray(build_layout("esp32", {"factory": build_app("esp32", "v1.0.0")}).merge())
    image[0x1100] ^= 1
    board = plug(image=bytes(image))
    with Wire(board) as wire:
        found = wire.read_until(lambda data: data.count(b"ets_main.c") >= 2).decode()
    assert "Checksum failed" in found
    assert "2nd stage bootloader" not in found


@pytest.mark.parametrize(
    ("slot", "broken", "label"), [(0, "", "ota_0"), (1, "ota_1", "ota_0"), (0, "ota_0", "factory")]
)
def test_otadata_selects_and_a_broken_slot_falls_back(plug: Plug, slot: int, broken: str, label: str) -> None:
    apps = {name: build_app("esp32", f"v-{name}", size=0x12000) for name in ("factory", "ota_0", "ota_1")}
    if broken:
        apps[broken] = apps[broken][:0x5000] + b"\0" + apps[broken][0x5001:]
    board = plug(image=build_layout("esp32", apps, slot=slot).merge())
    assert (board.status("partition"), board.status("version")) == (label, f"v-{label}")
    with Wire(board) as wire:
        wire.silence(0.02)
        board.do("tap")
        found = wire.text("Loaded app from partition")
    assert ("is not bootable" in found) == bool(broken)


def test_without_a_partition_table_nothing_starts(plug: Plug) -> None:
    image = bytearray(build_layout("esp32", {"factory": build_app("esp32", "v1.0.0")}).merge())
    image[0x8010] ^= 1
    board = plug(image=bytes(image))
    with Wire(board) as wire:
        found = wire.text("rst:0x3 (SW_RESET)")
    assert "flash_parts: MD5 checksum mismatch" in found
    assert (board.status("mode"), board.status("version")) == ("dead", None)


def test_flash_end_resets_into_download_mode_while_the_strap_says_so(plug: Plug) -> None:
    board = plug(image=build_layout("esp32", {"factory": build_app("esp32", "v1.0.0")}).merge())
    with rom(board) as wire:
        assert wire.ask_words(FLASH_END, 0) == OK
        assert "rst:0x3 (SW_RESET),boot:0x3 (DOWNLOAD_BOOT" in wire.text("waiting for download")
    with rom(board) as wire:
        assert wire.ask_words(FLASH_END, 1) == OK
        assert "Loaded app from partition at offset 0x10000" in wire.text("Loaded app")


def test_a_chip_without_download_mode_never_answers(plug: Plug) -> None:
    board = plug("esp32s3", "--download-disabled")
    with Wire(board) as wire:
        board.do("press")
        wire.text("Download boot modes disabled")
        assert board.status("mode") == "dead"
        wire.send(0x08, SYNC)
        assert b"\xc0" not in wire.silence(0.3)


# Faults


def write_sector(wire: Wire, offset: int, data: bytes) -> bytes:
    assert not any(wire.ask_words(FLASH_BEGIN, len(data), 1, len(data), offset))
    return wire.data(FLASH_DATA, 0, data)


@pytest.mark.parametrize(
    ("kind", "fields", "status"),
    [("wrong_status", {}, b"\x01\xfe"), ("wrong_status", {"status": 0xC4}, b"\x01\xc4")],
)
def test_fault_wrong_status(plug: Plug, kind: str, fields: dict[str, Any], status: bytes) -> None:
    board = plug()
    with stub(board) as wire:
        board.do("fault", kind=kind, command="program", **fields)
        assert write_sector(wire, 0x1000, b"data") == status
        assert wire.data(FLASH_DATA, 0, b"data") == b"\0\0"
        assert wire.ask_words(MD5, 0x1000, 4, 0, 0)[:16] == hashlib.md5(b"data").digest()


@pytest.mark.parametrize(("kind", "written"), [("drop", b"\xff" * 4), ("drop_reply", b"data")])
def test_fault_drop_and_drop_reply(plug: Plug, kind: str, written: bytes) -> None:
    board = plug()
    with stub(board) as wire:
        board.do("fault", kind=kind, command="program", byte=0x1002)
        assert wire.ask_words(FLASH_BEGIN, 4, 1, 4, 0x1000) == b"\0\0"
        wire.send(FLASH_DATA, struct.pack("<4I", 4, 0, 0, 0) + b"data", 0xEF ^ 0x64 ^ 0x61 ^ 0x74 ^ 0x61)
        assert wire.silence(0.3) == b""
        assert wire.ask_words(MD5, 0x1000, 4, 0, 0)[:16] == hashlib.md5(written).digest()


def test_fault_corrupt_is_found_only_by_reading(plug: Plug) -> None:
    board = plug()
    with stub(board) as wire:
        board.do("fault", kind="corrupt", command="program", byte=0x1102)
        assert write_sector(wire, 0x1000, bytes(0x400)) == b"\0\0"
        expected = bytearray(0x400)
        expected[0x102] = 0x10
        assert wire.ask_words(MD5, 0x1000, 0x400, 0, 0)[:16] == hashlib.md5(expected).digest()
        board.do("fault", kind="corrupt", command="read")
        assert wire.ask_words(0xD2, 0x1000, 0x400, 0x1000, 64) == b"\0\0"
        assert wire.packet() == bytes([0x10]) + bytes(expected[1:])
        wire.raw(struct.pack("<I", 0x400))
        assert wire.packet() == hashlib.md5(expected).digest()


def test_fault_garbage_and_a_broken_answer(plug: Plug) -> None:
    board = plug()
    with rom(board) as wire:
        board.do("fault", kind="garbage", command="verify")
        wire.send(MD5, struct.pack("<4I", 0, 16, 0, 0))
        assert wire.read_until(lambda data: len(data) >= 16) == bytes(range(0x80, 0x90))
        board.do("fault", kind="corrupt", command="verify")
        wire.send(MD5, struct.pack("<4I", 0, 16, 0, 0))
        assert wire.packet()[0] == 0x11


def test_fault_pause_goes_on_where_it_stood(plug: Plug) -> None:
    board = plug()
    with stub(board) as wire:
        board.do("pause", command="program", byte=0x2000)
        assert write_sector(wire, 0x1000, b"a" * 0x1000) == b"\0\0"
        assert wire.ask_words(FLASH_BEGIN, 0x1000, 1, 0x1000, 0x2000) == b"\0\0"
        wire.send(FLASH_DATA, struct.pack("<4I", 0x1000, 0, 0, 0) + b"a" * 0x1000, 0xEF)
        assert board.do("wait_paused", timeout=10)["paused"]
        assert wire.silence(0.2) == b""
        board.do("resume")
        assert wire.packet()[8:] == b"\0\0"
        assert wire.ask_words(MD5, 0x1000, 0x2000, 0, 0)[:16] == hashlib.md5(b"a" * 0x2000).digest()


def test_fault_hang_ends_with_a_reset(plug: Plug) -> None:
    board = plug()
    with rom(board) as wire:
        board.do("fault", kind="hang", command="identify")
        wire.send(0x08, SYNC)
        assert board.do("wait_paused", timeout=10)["paused"]
        assert not board.ask("resume")["ok"]
    with rom(board):
        assert not board.status("paused")


@pytest.mark.parametrize("loader", [rom, stub])
def test_fault_power_cut_in_the_middle_of_a_write(plug: Plug, loader: Callable[[EspDevice], Wire]) -> None:
    board = plug()
    data = bytes(range(256)) * 8
    packed = zlib.compress(data)
    with loader(board) as wire:
        board.do("fault", kind="power_cut", command="program", byte=0x1321)
        assert not any(wire.ask_words(DEFL_BEGIN, len(data), 1, len(packed), 0x1000))
        check = 0xEF
        for value in packed:
            check ^= value
        wire.send(DEFL_DATA, struct.pack("<4I", len(packed), 0, 0, 0) + packed, check)
        wait_for(lambda: board.status("mode") == "off")
    content = board.flash.read_bytes()
    assert content[0x1000:0x1321] == data[:0x321]
    assert content[0x1321:0x2000] == b"\xff" * (0x1000 - 0x321)
    board.do("power", on=True)
    wait_for(lambda: board.status("mode") == "dead")


def test_fault_power_cut_in_the_middle_of_an_erase(plug: Plug) -> None:
    board = plug(image=bytes(0x10000))
    with stub(board) as wire:
        board.do("fault", kind="power_cut", command="erase", byte=0x4800)
        wire.send(0xD1, struct.pack("<II", 0x1000, 0x8000))
        wait_for(lambda: board.status("mode") == "off")
    content = board.flash.read_bytes()[:0x10000]
    assert content == bytes(0x1000) + b"\xff" * 0x3000 + bytes(0xC000)


def test_fault_refuse_bootloader_and_boot_loop(plug: Plug) -> None:
    board = plug(image=build_layout("esp32", {"factory": build_app("esp32", "v1.0.0")}).merge())
    wait_for(lambda: board.status("mode") == "application")
    board.do("fault", kind="refuse_bootloader")
    board.do("press")
    wait_for(lambda: board.status("mode") == "application")
    board.do("fault", kind="boot_loop", count=2)
    with Wire(board) as wire:
        board.do("tap")
        found = wire.read_until(
            lambda data: data.count(b"gateway: ready") >= 3 and data.count(b"Rebooting") == 2
        ).decode()
    assert found.count("rst:0x3 (SW_RESET)") == 2
    assert board.status("mode") == "application"


def test_unknown_faults_and_operations_are_refused(plug: Plug) -> None:
    board = plug()
    assert "unknown fault" in board.ask("fault", kind="nonsense", command="program")["error"]
    assert "unknown command" in board.ask("fault", kind="drop", command="nonsense")["error"]
    assert "known:" in board.ask("nonsense")["error"]
    lines(board, RTS)
    assert "holds the board in reset" in board.ask("press")["error"]
