"""The simulated AVR boards keep to their bootloaders' sources, and Debian's avrdude works with them."""

import os
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from board_process import DTR, TIOCMBIC, TIOCMBIS, BoardProcess, Port, identify, klipper_block, missing, wait_for

from fleetflash.lab.image import build_image

Plug = Callable[..., BoardProcess]
KIB = 1024
NEEDED = missing("avrdude", "gcc")
needs_avrdude = pytest.mark.skipif(bool(NEEDED), reason=f"not installed: {NEEDED}")
SMALL, MEGA = "atmega328p", "atmega2560"
OPTIBOOT, WIRING = ("arduino", "m328p"), ("wiring", "m2560")
IN_SYNC_OK = "1410"


def image(kind: str, version: str = "v1", **options: int) -> bytes:
    return build_image(version, mcu=kind, **options)


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    boards: list[BoardProcess] = []

    def start(kind: str, *options: str, flash: bytes | None = None) -> BoardProcess:
        boards.append(BoardProcess(kind, tmp_path / kind, *options, flash=flash))
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


@contextmanager
def opened(board: BoardProcess) -> Iterator[Port]:
    """Open the port, which resets the board: its bootloader waits for a second."""
    resets = board.status("resets")
    with Port(board.tty) as port:
        wait_for(lambda: board.status("resets") > resets)
        time.sleep(0.05)  # until it listens
        yield port


@pytest.fixture
def small(plug: Plug) -> BoardProcess:
    return plug(SMALL, flash=image(SMALL))


@pytest.fixture
def port(small: BoardProcess) -> Iterator[Port]:
    with opened(small) as port:
        yield port


# Optiboot: golden frames, from optiboot.c


def test_sync_signature_version_and_parameters(port: Port) -> None:
    assert port.ask("3020", 2) == IN_SYNC_OK
    assert port.ask("7520", 5) == "14" + "1e950f" + "10"
    assert port.ask("418120", 3) == "140810"
    assert port.ask("418220", 3) == "140310"
    assert port.ask("419820", 3) == "140310"
    assert port.ask("42" + 20 * "00" + "20", 2) == IN_SYNC_OK
    assert port.ask("45" + 5 * "00" + "20", 2) == IN_SYNC_OK
    assert port.ask("5020", 2) == IN_SYNC_OK


def test_fuses_read_as_zero(port: Port) -> None:
    """STK_UNIVERSAL is ignored; 0x50 would be the low fuse."""
    assert port.ask("565000000020", 3) == "140010"


def test_page_is_erased_when_it_is_written_and_its_neighbours_are_not(small: BoardProcess, port: Port) -> None:
    before = small.flash()
    assert port.ask("55400020", 2) == IN_SYNC_OK
    assert port.ask("64008046" + 128 * "a5" + "20", 2) == IN_SYNC_OK
    assert small.flash() == before[:128] + 128 * b"\xa5" + before[256:]
    assert port.ask("55400020", 2) == IN_SYNC_OK
    assert port.ask("64000446" + "01020304" + "20", 2) == IN_SYNC_OK
    assert small.flash()[128:256] == b"\x01\x02\x03\x04" + b"\xff" * 124
    assert port.ask("74000846" + "20", 10) == "14" + "01020304ffffffff" + "10"


def test_boot_section_is_locked_and_holds_the_version(small: BoardProcess, port: Port) -> None:
    boot = small.flash()[-512:]
    assert boot[-2:] == b"\x03\x08"
    assert port.ask("55003f20", 2) == IN_SYNC_OK
    assert port.ask("64008046" + 128 * "00" + "20", 2) == IN_SYNC_OK
    assert small.flash()[-512:] == boot


def test_eeprom_reads_as_flash_and_writing_it_ends_with_the_watchdog(small: BoardProcess, port: Port) -> None:
    assert port.ask("55000020", 2) == IN_SYNC_OK
    assert port.ask("74000445" + "20", 6) == "14" + small.flash()[:4].hex() + "10"
    assert port.ask("64000445" + "01020304" + "20", 2, timeout=0.3) == "14"
    wait_for(lambda: small.mode == "application")


def test_anything_but_a_space_at_the_end_starts_the_application_soon(small: BoardProcess, port: Port) -> None:
    # What comes is the application's greeting at its own rate, not the sync byte.
    assert not port.ask("3021", 1, timeout=0.1).startswith("14")
    wait_for(lambda: small.mode == "application")


def test_leaving_starts_the_application(small: BoardProcess, port: Port) -> None:
    assert port.ask("5120", 2) == IN_SYNC_OK
    wait_for(lambda: small.mode == "application")


def test_a_second_of_silence_starts_the_application_and_every_byte_starts_it_anew(
    small: BoardProcess, port: Port
) -> None:
    for _ in range(3):
        time.sleep(0.7)
        assert port.ask("3020", 2) == IN_SYNC_OK
    started = time.monotonic()
    wait_for(lambda: small.mode == "application")
    assert time.monotonic() - started > 0.8


def test_bytes_at_another_rate_do_not_feed_the_watchdog(small: BoardProcess, port: Port) -> None:
    port.serial.baudrate = 250000
    for _ in range(14):
        port.write(b"\x30\x20")
        time.sleep(0.1)
    assert small.mode == "application"


def test_bytes_that_come_while_a_page_is_written_are_lost_beyond_two(port: Port) -> None:
    answers = []
    # The page takes milliseconds: on a machine that is busy elsewhere, the bytes may come too late.
    while "10" + IN_SYNC_OK not in answers and len(answers) < 10:
        assert port.ask("55000120", 2) == IN_SYNC_OK
        port.write(bytes.fromhex("64000446" + "01020304" + "20"))
        assert port.read(1, 1) == b"\x14"
        port.write(bytes.fromhex("3020" + "7520"))
        answers.append(port.read(0.3).hex())
    assert answers[-1] == "10" + IN_SYNC_OK


# Starting


def test_power_alone_starts_the_application_at_once(small: BoardProcess) -> None:
    assert small.mode == "application"
    small.do("power", on=False)
    small.do("power", on=True)
    assert small.mode == "application"


def test_opening_the_port_resets_unless_hangup_on_close_is_off(small: BoardProcess) -> None:
    resets = small.status("resets")
    fd = os.open(small.tty, os.O_RDWR | os.O_NOCTTY)
    wait_for(lambda: small.status("resets") == resets + 1)
    flags = termios.tcgetattr(fd)
    flags[2] &= ~termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, flags)
    os.close(fd)
    time.sleep(0.05)
    fd = os.open(small.tty, os.O_RDWR | os.O_NOCTTY)
    time.sleep(0.1)
    os.close(fd)
    assert small.status("resets") == resets + 1


@pytest.mark.parametrize("kind", [SMALL, MEGA])
def test_only_asserting_dtr_resets(plug: Plug, kind: str) -> None:
    board = plug(kind, flash=image(kind))
    board.lines(TIOCMBIS, DTR)
    wait_for(lambda: board.mode == "bootloader")
    resets = board.status("resets")
    board.lines(TIOCMBIC, DTR)
    time.sleep(0.05)
    assert board.status("resets") == resets
    board.lines(TIOCMBIS, DTR)
    assert board.status("resets") == resets + 1
    wait_for(lambda: board.mode == "application")


def test_a_blank_small_chip_is_dead_until_it_is_reset(plug: Plug) -> None:
    board = plug(SMALL)
    assert board.mode == "dead"
    with opened(board) as port:
        assert port.ask("3020", 2) == IN_SYNC_OK
        wait_for(lambda: board.mode == "dead")


def test_a_blank_mega_comes_back_to_its_bootloader(plug: Plug) -> None:
    board = plug(MEGA)
    time.sleep(2.3)
    assert board.mode == "bootloader"
    with opened(board) as port:
        assert port.ask("1b0100010e0114", 17)[:10] == "1b01000b0e"


def test_polling_at_once_keeps_the_mega_in_its_bootloader(plug: Plug) -> None:
    """Its application listens at the bootloader's rate here, as an old configuration may."""
    board = plug(MEGA, flash=image(MEGA, baud=115200))
    with Port(board.tty) as port:
        for _ in range(8):
            port.write(klipper_block(0, b"\x01\x00\x28"))
            time.sleep(0.3)
        assert board.mode == "bootloader"
    quiet = plug(SMALL, flash=image(SMALL, baud=115200))
    with Port(quiet.tty):
        wait_for(lambda: quiet.mode == "application")


@pytest.mark.parametrize("kind", [SMALL, MEGA])
def test_the_application_answers_identify(plug: Plug, kind: str) -> None:
    board = plug(kind, flash=image(kind, "v0.13.0-5-g123"))
    with Port(board.tty, 250000) as port:
        wait_for(lambda: board.mode == "application")
        dictionary = identify(port)
    assert dictionary["version"] == "v0.13.0-5-g123"
    assert dictionary["config"]["MCU"] == kind
    assert dictionary["config"]["CLOCK_FREQ"] == 16_000_000


# STK500 version 2 on the Mega


def message(sequence: int, body: bytes) -> bytes:
    head = struct.pack(">BBHB", 0x1B, sequence, len(body), 0x0E) + body
    total = 0
    for value in head:
        total ^= value
    return head + bytes([total])


class Mega:
    def __init__(self, port: Port) -> None:
        self.port = port
        self.sequence = 0

    def __call__(self, body: str, timeout: float = 2.0) -> str:
        """Send one message; the body of the answer, its frame checked; empty when there is none."""
        self.sequence = self.sequence + 1 & 0xFF
        self.port.write(message(self.sequence, bytes.fromhex(body)))
        head = self.port.read(timeout, 5)
        if len(head) < 5:
            return head.hex()
        rest = self.port.read(timeout, struct.unpack(">H", head[2:4])[0] + 1)
        assert head + rest == message(self.sequence, rest[:-1])
        return rest[:-1].hex()


@pytest.fixture
def mega(plug: Plug) -> Iterator[Mega]:
    board = plug(MEGA, flash=bytes(range(256)) * 4)
    with opened(board) as port:
        yield Mega(port)


def test_golden_sign_on_frame(mega: Mega) -> None:
    """AVR068, 4.1 and 5.1: "AVRISP_2", checksum over everything before it."""
    answer = "1b01000b0e0100084156524953505f32"
    total = 0
    for value in bytes.fromhex(answer):
        total ^= value
    assert mega.port.ask("1b0100010e0114", 17) == answer + f"{total:02x}"


def test_parameters_signature_and_fuses(mega: Mega) -> None:
    assert mega("0392") == "03000a"
    assert mega("0391") == "030002"
    assert mega("0399") == "030000"
    for index, value in enumerate(("1e", "98", "01")):
        assert mega(f"1d040400{'3000'}{index:02x}00") == f"1d00003000{value}00"
        assert mega(f"1b04{'3000'}{index:02x}00") == f"1b00{value}00"
    assert mega("1d04040050000000") == "1d00005000ff00"
    assert mega("1d04040058080000") == "1d00005800d800"
    assert mega("18045008") == "1800fd00"
    assert mega("1a04580000") == "1a00cf00"


def test_unknown_command_and_chip_erase_fail(mega: Mega) -> None:
    assert mega("7700") == "77c0"
    assert mega("1255010000000000") == "12c0"


def test_broken_checksum_or_token_gets_no_answer(mega: Mega) -> None:
    mega.port.write(bytes.fromhex("1b0100010e0115" + "1b0100010f0114" + "0055"))
    assert mega.port.read(0.2) == b""
    assert mega("01")[:4] == "0100"


def test_a_message_larger_than_its_buffer_crashes_it_until_reset(plug: Plug, mega: Mega) -> None:
    mega.port.write(struct.pack(">BBHB", 0x1B, 1, 286, 0x0E) + bytes(287))
    assert mega.port.read(0.1) == b""
    assert mega("01", timeout=0.3) == ""


def test_it_erases_from_the_beginning_wherever_it_writes(plug: Plug, tmp_path: Path) -> None:
    """stk500boot.c: eraseAddress goes its own way, so a first page written elsewhere is ANDed to what was there."""
    board = plug(MEGA, flash=b"\x0f" * 4 * KIB)
    with opened(board) as port:
        mega = Mega(port)
        assert mega("0600000400") == "0600"  # word 0x400, byte 0x800
        assert mega("130100c10a40" + "4c2000" + "00" + 256 * "3c") == "1300"
        flash = board.flash()
        assert flash[:256] == b"\xff" * 256
        assert flash[256:0x800] == b"\x0f" * (0x800 - 256)
        assert flash[0x800:0x900] == b"\x0c" * 256
        # The address has moved on, and so has the page that is erased.
        assert mega("130100c10a40" + "4c2000" + "00" + 256 * "3c") == "1300"
        assert board.flash()[:0xA00] == b"\xff" * 512 + b"\x0f" * 0x600 + b"\x0c" * 512
        assert mega("0680000000") == "0600"
        assert mega("14010020") == "1400" + 256 * "ff" + "00"


def test_eeprom_is_written_and_read_back(plug: Plug, mega: Mega) -> None:
    assert mega("0600000010") == "0600"
    assert mega("150004" + "00" * 7 + "deadbeef") == "1500"
    assert mega("0600000010") == "0600"
    assert mega("16000620") == "1600" + "deadbeefffff" + "00"


def test_leaving_the_mega_starts_the_application(plug: Plug) -> None:
    board = plug(MEGA, flash=image(MEGA))
    with opened(board) as port:
        assert Mega(port)("110101") == "1100"
        wait_for(lambda: board.mode == "application")


# Faults


def test_a_board_killed_while_writing_keeps_what_was_written(small: BoardProcess, port: Port) -> None:
    before = small.flash()
    small.do("pause", command="program", byte=256)
    for page in range(3):
        assert port.ask(f"55{page * 64:02x}0020", 2) == IN_SYNC_OK
        port.write(bytes.fromhex("64008046" + 128 * "11" + "20"))
        if page < 2:
            assert port.read(1, 2).hex() == IN_SYNC_OK
    assert small.do("wait_paused", timeout=3)["paused"]
    small.stop(signal.SIGKILL)
    assert small.flash() == b"\x11" * 256 + before[256:]


def test_power_cut_in_a_page_leaves_it_half_written(small: BoardProcess, port: Port) -> None:
    small.do("fault", kind="power_cut", command="program", byte=20)
    assert port.ask("55000020", 2) == IN_SYNC_OK
    assert port.ask("64008046" + 128 * "11" + "20", 2, timeout=0.2) == ""
    assert small.mode == "off"
    assert small.flash()[:128] == b"\x11" * 20 + b"\xff" * 108
    small.do("power", on=True)
    assert small.mode == "dead"
    small.do("tap")
    time.sleep(0.03)
    assert port.ask("3020", 2) == IN_SYNC_OK


def test_wrong_answers(small: BoardProcess, port: Port) -> None:
    small.do("fault", kind="wrong_status", command="address", status=0x11)
    assert port.ask("55000020", 2) == "1411"
    small.do("fault", kind="drop_reply", command="program")
    assert port.ask("64000446" + "01020304" + "20", 2, timeout=0.2) == ""
    assert small.flash()[:4].hex() == "01020304"
    small.do("fault", kind="corrupt", command="program", byte=1)
    assert port.ask("64000446" + "01020304" + "20", 2) == IN_SYNC_OK
    assert small.flash()[:4].hex() == "01120304"
    small.do("fault", kind="garbage", command="read")
    assert port.ask("74000446" + "20", 4) == "80818283"
    port.read(0.05)
    small.do("fault", kind="drop", command="identify")
    assert port.ask("7520", 5, timeout=0.2) == ""


def test_refused_bootloader(small: BoardProcess) -> None:
    small.do("fault", kind="refuse_bootloader")
    small.do("press")
    assert small.mode == "application"
    small.do("press")
    assert small.mode == "bootloader"


# Debian's avrdude


def avrdude(board: BoardProcess, programmer: tuple[str, str], *memory: str, shim: bool = True) -> str:
    name, part = programmer
    operations = [argument for item in memory for argument in ("-U", item)]
    command = ["avrdude", "-c", name, "-p", part, "-b", "115200", "-D", "-P", str(board.tty), *operations]
    result = board.run(*command, shim=shim)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stderr


@needs_avrdude
@pytest.mark.parametrize(("kind", "programmer"), [(SMALL, OPTIBOOT), (MEGA, WIRING)])
def test_avrdude_writes_verifies_and_reads_back(
    plug: Plug, tmp_path: Path, kind: str, programmer: tuple[str, str]
) -> None:
    """It enters by DTR, which the lab's shim carries, and finds its chip by the signature."""
    board = plug(kind, flash=image(kind, "v0.11.0"))
    new, back = tmp_path / "new.bin", tmp_path / "back.bin"
    content = image(kind, "v0.12.0", size=12 * KIB)
    new.write_bytes(content)
    started = time.monotonic()
    said = avrdude(board, programmer, f"flash:w:{new}:r")
    print(f"{kind}: write and verify 12 KiB: {time.monotonic() - started:.1f} s")
    assert "12288 bytes of flash verified" in said
    assert board.flash()[: 12 * KIB] == content
    wait_for(lambda: board.mode == "application")
    assert board.status("version") == "v0.12.0"
    if kind == SMALL:
        avrdude(board, programmer, f"flash:r:{back}:r")
        assert back.read_bytes() == board.flash()


@needs_avrdude
def test_avrdude_reads_the_megas_fuses_and_its_eeprom_back(plug: Plug, tmp_path: Path) -> None:
    board = plug(MEGA, flash=image(MEGA))
    data, back = tmp_path / "eeprom.bin", tmp_path / "eeprom-back.bin"
    data.write_bytes(bytes(range(64)))
    said = avrdude(board, WIRING, f"eeprom:w:{data}:r", "lfuse:r:-:h", "hfuse:r:-:h")
    assert "64 bytes of eeprom verified" in said
    avrdude(board, WIRING, f"eeprom:r:{back}:r")
    assert back.read_bytes()[:64] == bytes(range(64))


@needs_avrdude
def test_avrdude_refuses_another_chip(plug: Plug) -> None:
    board = plug(SMALL, flash=image(SMALL))
    result = board.run("avrdude", "-c", "arduino", "-p", "m168p", "-b", "115200", "-P", str(board.tty))
    assert result.returncode != 0
    assert "0x1e950f" in result.stderr


@needs_avrdude
def test_without_modem_lines_opening_the_port_is_enough_for_avrdude(plug: Plug) -> None:
    board = plug(SMALL, flash=image(SMALL))
    assert "0x1e950f" in avrdude(board, OPTIBOOT, shim=False)
