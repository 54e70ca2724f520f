"""The simulated STM32 boards keep to AN3155, and Debian's stm32flash works with them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from board_process import (
    DTR,
    PARENB,
    PARODD,
    RTS,
    TCSETS,
    TIOCMBIC,
    TIOCMBIS,
    TIOCMSET,
    BoardProcess,
    Port,
    identify,
    missing,
    wait_for,
)

from fleetflash.lab.image import build_image

Plug = Callable[..., BoardProcess]
KIB = 1024
UID = "414e3331353500112233aabb"
ACK, NACK = "79", "1f"
needs_stm32flash = pytest.mark.skipif(
    bool(missing("stm32flash", "gcc")), reason=f"needs {missing('stm32flash', 'gcc')}"
)


def f103(version: str = "v1") -> bytes:
    return build_image(version, mcu="stm32f103xe")


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    boards: list[BoardProcess] = []

    def start(*options: str, kind: str = "stm32f103", flash: bytes | None = None) -> BoardProcess:
        boards.append(BoardProcess(kind, tmp_path / kind, "--uid", UID, *options, flash=flash))
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def xor(data: bytes) -> bytes:
    total = 0
    for value in data:
        total ^= value
    return bytes([total])


class Rom:
    """A tester at the bootloader: every step by hand, as AN3155 draws it."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def step(self, data: bytes, timeout: float = 3.0) -> str:
        self.port.write(data)
        return self.port.read(timeout, 1).hex()

    def sync(self) -> None:
        assert self.step(b"\x7f") == ACK

    def command(self, code: int) -> str:
        return self.step(bytes([code, code ^ 0xFF]))

    def address(self, address: int) -> str:
        raw = address.to_bytes(4, "big")
        return self.step(raw + xor(raw))

    def read(self, address: int, count: int) -> bytes:
        assert self.command(0x11) == ACK
        assert self.address(address) == ACK
        assert self.step(bytes([count - 1, count - 1 ^ 0xFF])) == ACK
        return self.port.read(2.0, count)

    def write(self, address: int, data: bytes) -> str:
        assert self.command(0x31) == ACK
        assert self.address(address) == ACK
        body = bytes([len(data) - 1]) + data
        return self.step(body + xor(body))

    def erase(self, *pages: int) -> str:
        assert self.command(0x43) == ACK
        body = bytes([len(pages) - 1, *pages])
        return self.step(body + xor(body))

    def mass_erase(self) -> str:
        assert self.command(0x43) == ACK
        return self.step(b"\xff\x00")

    def extended_erase(self, *pages: int) -> str:
        assert self.command(0x44) == ACK
        body = b"".join(number.to_bytes(2, "big") for number in (len(pages) - 1, *pages))
        return self.step(body + xor(body))


@pytest.fixture
def board(plug: Plug) -> BoardProcess:
    board = plug("--bootloader", flash=f103())
    time.sleep(0.03)
    return board


@pytest.fixture
def rom(board: BoardProcess) -> Iterator[Rom]:
    with Port(board.tty) as port:
        rom = Rom(port)
        rom.sync()
        yield rom


@contextmanager
def talking(board: BoardProcess, baud: int = 115200) -> Iterator[Rom]:
    """A synchronized bootloader; the board has just been told to enter it."""
    time.sleep(0.03)
    with Port(board.tty, baud) as port:
        rom = Rom(port)
        rom.sync()
        yield rom


# Identity and framing; every frame as the sections of AN3155 draw it


def test_get_lists_the_commands_of_this_chip(plug: Plug) -> None:
    with talking(plug("--bootloader")) as rom:
        assert rom.port.ask("00ff", 15) == "790b" + "22" + "000102112131436373829279"
    with talking(plug("--bootloader", kind="stm32f446")) as rom:
        assert rom.port.ask("00ff", 15) == "790b" + "31" + "000102112131446373829279"


def test_get_version_and_product_id(plug: Plug) -> None:
    with talking(plug("--bootloader")) as rom:
        assert rom.port.ask("01fe", 5) == "7922000079"
        assert rom.port.ask("02fd", 5) == "7901041079"
    with talking(plug("--bootloader", kind="stm32f446")) as rom:
        assert rom.port.ask("02fd", 5) == "7901042179"


@pytest.mark.parametrize("request_", ["00fe", "4300", "44bb", "55aa", "7f7f"])
def test_wrong_complement_and_unknown_commands_are_nacked(rom: Rom, request_: str) -> None:
    """0x44 is unknown to a chip that has 0x43 (AN3155, table 2, note: only one of them)."""
    assert rom.port.ask(request_, 2, timeout=0.2) == NACK
    assert rom.port.ask("02fd", 5) == "7901041079"


def test_golden_read_of_the_flash_size_register(rom: Rom) -> None:
    assert rom.port.ask("11ee", 1) == ACK
    assert rom.port.ask("1ffff7e0f7", 1) == ACK
    assert rom.port.ask("01fe", 3) == "79" + "8000"


def test_wrong_address_checksum_and_addresses_of_nothing_are_nacked(rom: Rom) -> None:
    assert rom.port.ask("11ee", 1) == ACK
    assert rom.port.ask("0800000009", 1) == NACK
    for address in (0x0802_0000, 0x2000_0000, 0x2000_5000, 0x4000_0000, 0x0000_0000):
        assert rom.command(0x11) == ACK
        assert rom.address(address) == NACK
    # The last byte is there, the next one is not.
    assert rom.command(0x11) == ACK
    assert rom.address(0x0801_FFFF) == ACK
    assert rom.step(b"\x01\xfe") == NACK


def test_unique_id_and_option_bytes_are_where_the_chip_has_them(plug: Plug) -> None:
    with talking(plug("--bootloader")) as rom:
        assert rom.read(0x1FFF_F7E8, 12).hex() == UID
        assert rom.read(0x1FFF_F800, 16).hex() == "a55aff00ff00ff00ff00ff00ff00ff00"
        assert rom.read(0x1FFF_F7D6, 1) == b"\x22"
    with talking(plug("--bootloader", kind="stm32f446")) as rom:
        assert rom.read(0x1FFF_7A10, 12).hex() == UID
        assert rom.read(0x1FFF_7A22, 2) == b"\x00\x02"
        assert rom.read(0x1FFF_C001, 1) == b"\xaa"


# Rate and parity


@pytest.mark.parametrize("baud", [9600, 57600, 115200])
def test_the_first_byte_sets_the_rate(board: BoardProcess, baud: int) -> None:
    with talking(board, baud) as rom:
        assert rom.port.ask("02fd", 5) == "7901041079"
        rom.port.serial.baudrate = 38400
        rom.port.write(b"\x02\xfd")
        assert rom.port.read(0.2) == b""


@pytest.mark.parametrize(("first", "baud"), [(b"\x00", 115200), (b"\x7f", 230400)])
def test_another_first_byte_or_too_fast_a_rate_leaves_it_deaf(board: BoardProcess, first: bytes, baud: int) -> None:
    with Port(board.tty, baud) as port:
        port.write(first + b"\x7f")
        assert port.read(0.2) == b""
        port.write(b"\x7f")
        assert port.read(0.2) == b""
        board.press()
        port.serial.baudrate = 115200
        assert Rom(port).step(b"\x7f") == ACK


def test_without_even_parity_only_what_looks_alike_gets_through(board: BoardProcess) -> None:
    """0x7F and 0x79 have seven and five ones: their even parity bit is 1, just as the stop bit of 8N1."""
    with talking(board) as rom:
        board.lines(TCSETS, 0)
        rom.port.write(b"\x02\xfd")
        assert rom.port.read(0.2) == b""
        board.press()
        assert rom.step(b"\x7f") == ACK
        rom.port.write(b"\x00\xff")
        assert rom.port.read(0.2) == b""
        board.press()
        board.lines(TCSETS, PARENB | PARODD)
        rom.port.write(b"\x7f")
        assert rom.port.read(0.2) == b""
        board.lines(TCSETS, PARENB)
        rom.sync()
        assert rom.port.ask("02fd", 5) == "7901041079"


def test_a_client_with_even_parity_reads_zeros_where_the_application_has_none(plug: Plug) -> None:
    board = plug(flash=f103())
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        board.lines(TCSETS, PARENB)
        port.write(b"\x05\x17\x00\x00\x7e")
        assert port.read(0.2) == b""
        board.lines(TCSETS, 0)
        assert identify(port)["version"] == "v1"


def test_a_byte_of_8e1_takes_eleven_bits(rom: Rom) -> None:
    """20 reads of 256 bytes: 12 bytes out, 259 back, 0.52 s of line at 115200."""
    started = time.monotonic()
    for block in range(20):
        assert len(rom.read(0x0800_0000 + 256 * block, 256)) == 256
    elapsed = time.monotonic() - started
    print(f"20 reads of 256 bytes: {elapsed:.3f} s, line {20 * 271 * 11 / 115200:.3f} s")
    assert elapsed >= 20 * 271 * 11 / 115200


# Flash


def test_written_flash_reads_back(board: BoardProcess, rom: Rom) -> None:
    assert rom.erase(0, 1) == ACK
    data = bytes(range(256))
    assert rom.write(0x0800_0100, data) == ACK
    assert rom.read(0x0800_0100, 256) == data
    assert board.flash()[: 2 * KIB] == b"\xff" * 256 + data + b"\xff" * (2 * KIB - 512)
    assert board.flash()[2 * KIB :] == f103().ljust(128 * KIB, b"\xff")[2 * KIB :]


def test_an_f1_keeps_half_words_that_are_not_erased_but_takes_zeros(board: BoardProcess, rom: Rom) -> None:
    """PM0075, 2.3.3; the bootloader says ACK all the same, so only verifying finds it."""
    assert rom.erase(0) == ACK
    assert rom.write(0x0800_0000, bytes.fromhex("1111ffff22222222")) == ACK
    assert rom.write(0x0800_0000, bytes.fromhex("0101333300000101")) == ACK
    assert board.flash()[:8].hex() == "1111333300002222"


def test_an_f4_clears_bits_of_what_is_not_erased(plug: Plug) -> None:
    board = plug("--bootloader", kind="stm32f446", flash=b"\xf0" * 16 + b"\xff" * 16)
    with talking(board) as rom:
        assert rom.write(0x0800_0000, b"\x3c" * 32) == ACK
    assert board.flash()[:32] == b"\x30" * 16 + b"\x3c" * 16


@pytest.mark.parametrize(("address", "length"), [(0x0800_0000, 3), (0x0800_0002, 4), (0x0801_FFF0, 32)])
def test_writes_out_of_line_or_out_of_flash_are_nacked(rom: Rom, address: int, length: int) -> None:
    assert rom.write(address, bytes(length)) == NACK


def test_writing_to_system_memory_or_with_a_wrong_checksum_is_nacked(rom: Rom) -> None:
    assert rom.command(0x31) == ACK
    assert rom.address(0x1FFF_F000) == NACK
    assert rom.command(0x31) == ACK
    assert rom.address(0x0801_0000) == ACK
    assert rom.step(bytes([3, 1, 2, 3, 4, 0])) == NACK
    assert rom.read(0x0801_0000, 4) == b"\xff" * 4


def test_ram_can_be_written_and_read(rom: Rom) -> None:
    assert rom.write(0x2000_0200, b"12345678") == ACK
    assert rom.read(0x2000_0204, 4) == b"5678"


def test_page_erase_takes_exactly_its_pages_and_their_time(board: BoardProcess, rom: Rom) -> None:
    before = f103().ljust(128 * KIB, b"\xff")
    started = time.monotonic()
    assert rom.erase(*range(1, 21)) == ACK
    assert time.monotonic() - started >= 20 * 0.02
    assert board.flash() == before[:KIB] + b"\xff" * 20 * KIB + before[21 * KIB :]
    assert rom.erase(128) == NACK
    assert rom.command(0x43) == ACK
    assert rom.step(bytes([0, 0, 1])) == NACK
    assert board.status("erases") == 1


def test_mass_erase(board: BoardProcess, rom: Rom) -> None:
    assert rom.command(0x43) == ACK
    assert rom.step(b"\xff\x01") == NACK
    assert rom.mass_erase() == ACK
    assert board.flash() == b"\xff" * 128 * KIB


def test_extended_erase_by_sector(plug: Plug) -> None:
    board = plug("--bootloader", kind="stm32f446", flash=bytes(512 * KIB))
    with talking(board) as rom:
        started = time.monotonic()
        assert rom.extended_erase(0, 4) == ACK
        assert time.monotonic() - started >= 0.25 + 0.55
        assert rom.extended_erase(8) == NACK
        # One bank only: bank erases and reserved codes (AN3155, 3.8) are refused.
        for special in (b"\xff\xfe\x01", b"\xff\xfd\x02", b"\xff\xf0\x0f", b"\xff\xff\x01"):
            assert rom.command(0x44) == ACK
            assert rom.step(special) == NACK
    erased = b"\xff" * 16 * KIB
    assert board.flash() == erased + bytes(48 * KIB) + b"\xff" * 64 * KIB + bytes(384 * KIB)


def test_extended_mass_erase(plug: Plug) -> None:
    board = plug("--bootloader", kind="stm32f446", flash=bytes(512 * KIB))
    with talking(board) as rom:
        assert rom.command(0x44) == ACK
        assert rom.step(b"\xff\xff\x00", timeout=10) == ACK
    assert board.flash() == b"\xff" * 512 * KIB


# Protection


def test_write_protected_pages_keep_their_content_without_an_error(board: BoardProcess, rom: Rom) -> None:
    """AN3155, 3.6 and 3.7: no error is returned. Unit 1 is pages 4 to 7 of an STM32F103xB."""
    assert rom.command(0x63) == ACK
    assert rom.step(bytes([0, 1, 1])) == ACK
    wait_for(lambda: board.mode == "application")
    board.press()
    rom.sync()
    before = board.flash()
    assert board.status("write_protected")
    assert rom.erase(3, 4, 7, 8) == ACK
    assert (
        board.flash()
        == before[: 3 * KIB] + b"\xff" * KIB + before[4 * KIB : 8 * KIB] + b"\xff" * KIB + (before[9 * KIB :])
    )
    assert rom.mass_erase() == ACK
    assert board.flash()[: 3 * KIB] == before[: 3 * KIB]
    assert rom.command(0x73) == ACK
    assert rom.port.read(1.0, 1).hex() == ACK
    wait_for(lambda: board.mode == "application" or board.mode == "dead")
    assert not board.status("write_protected")


def test_a_read_protected_chip_hides_its_flash_and_unprotecting_erases_it(board: BoardProcess, rom: Rom) -> None:
    assert rom.command(0x82) == ACK
    assert rom.port.read(1.0, 1).hex() == ACK
    wait_for(lambda: board.mode == "application")
    board.press()
    rom.port.read(0.2)  # the application's first words, garbled
    rom.sync()
    assert board.status("read_protected")
    for code in (0x11, 0x21, 0x31, 0x43, 0x63, 0x73, 0x82):
        assert rom.command(code) == NACK
    assert rom.port.ask("02fd", 5) == "7901041079"
    assert board.flash()[:1000] == f103()[:1000]
    assert rom.command(0x92) == ACK
    assert rom.port.read(2.0, 1).hex() == ACK
    wait_for(lambda: board.mode == "dead")
    assert board.flash() == b"\xff" * 128 * KIB
    assert not board.status("read_protected")


def test_protection_outlives_the_process(plug: Plug) -> None:
    board = plug("--bootloader")
    with talking(board) as rom:
        rom.command(0x82)
        assert rom.port.read(1.0, 1).hex() == ACK
        wait_for(lambda: board.mode == "dead")
    board.stop(signal.SIGKILL)
    assert plug().status("read_protected")


def test_level_2_is_for_ever(plug: Plug, tmp_path: Path) -> None:
    """RM0390, 3.6.3: CC in the RDP byte."""
    (tmp_path / "stm32f446").mkdir()
    (tmp_path / "stm32f446/flash.bin.options").write_text('{"option_bytes": "efccffffffffffffff7fffffffffffff"}')
    with talking(plug("--bootloader", kind="stm32f446")) as rom:
        assert rom.command(0x92) == NACK
        assert rom.command(0x11) == NACK


def test_option_bytes_are_written_like_memory_and_reset_the_chip(board: BoardProcess, rom: Rom) -> None:
    options = bytes.fromhex("00ffff00ff00ff00ff00ff00ff00ff00")
    assert rom.write(0x1FFF_F800, options) == ACK
    wait_for(lambda: board.mode == "application")
    assert board.status("read_protected")


# Entering and leaving


def test_go_starts_the_application_without_a_reset(board: BoardProcess, rom: Rom) -> None:
    resets = board.status("resets")
    assert rom.command(0x21) == ACK
    assert rom.address(0x0800_0000) == ACK
    wait_for(lambda: board.mode == "application")
    assert board.status("resets") == resets
    time.sleep(0.05)
    rom.port.serial.baudrate = 250000
    assert identify(rom.port)["config"]["MCU"] == "stm32f103xe"


def test_go_elsewhere_runs_nothing_and_into_nothing_is_nacked(board: BoardProcess, rom: Rom) -> None:
    assert rom.command(0x21) == ACK
    assert rom.address(0x4000_0000) == NACK
    assert rom.command(0x21) == ACK
    assert rom.address(0x0800_2000) == ACK
    wait_for(lambda: board.mode == "dead")


def test_lines_enter_and_leave_the_bootloader(plug: Plug) -> None:
    board = plug("--wiring", "reset=dtr:1,boot=rts:1", flash=f103())
    board.lines(TIOCMSET, RTS)
    wait_for(lambda: board.mode == "bootloader")
    board.lines(TIOCMBIS, DTR)
    time.sleep(0.02)
    board.lines(TIOCMBIC, DTR)
    assert board.mode == "bootloader"
    with talking(board) as rom:
        # BOOT0 is still high when the system reset comes that ends every change of protection.
        assert rom.command(0x73) == ACK
        assert rom.port.read(1.0, 1).hex() == ACK
        wait_for(lambda: "mode off" in board.log())
        time.sleep(0.05)
        assert board.mode == "bootloader"
        rom.sync()
    board.lines(TIOCMSET, DTR)
    time.sleep(0.02)
    board.lines(TIOCMSET, 0)
    assert board.mode == "application"


def test_an_image_linked_to_another_address_does_not_run(plug: Plug) -> None:
    board = plug(flash=build_image("v1", mcu="stm32f103xe", base=0x0800_2000))
    assert board.mode == "dead"
    assert board.status("version") is None


# Faults


def test_a_board_killed_while_writing_keeps_what_was_written(plug: Plug) -> None:
    board = plug("--bootloader", flash=b"")
    with talking(board) as rom:
        board.do("pause", command="program", byte=512)
        assert rom.write(0x0800_0000, b"\x11" * 256) == ACK
        assert rom.write(0x0800_0100, b"\x22" * 256) == ACK
        assert rom.command(0x31) == ACK
        assert rom.address(0x0800_0200) == ACK
        rom.port.write(bytes([255]) + bytes(256) + b"\xff")
        assert board.do("wait_paused", timeout=3)["paused"]
        assert board.status("programs") == 2
    board.stop(signal.SIGKILL)
    assert board.flash() == b"\x11" * 256 + b"\x22" * 256 + b"\xff" * (128 * KIB - 512)


def test_pause_and_resume(rom: Rom, board: BoardProcess) -> None:
    board.do("pause", command="erase")
    assert rom.command(0x43) == ACK
    rom.port.write(bytes([0, 3, 3]))
    assert board.do("wait_paused", timeout=3)["paused"]
    assert board.status("erases") == 0
    board.do("resume")
    assert rom.port.read(2.0, 1).hex() == ACK
    assert board.status("erases") == 1


def test_power_cut_at_a_byte_while_erasing_and_while_writing(board: BoardProcess, rom: Rom) -> None:
    before = board.flash()
    board.do("fault", kind="power_cut", command="erase", byte=1500)
    assert rom.erase(0, 1, 2) == ""
    assert board.mode == "off"
    assert board.flash() == b"\xff" * 1500 + before[1500:]
    board.do("power", on=True)
    board.press()
    rom.sync()
    board.do("fault", kind="power_cut", command="program", byte=100)
    assert rom.write(0x0800_0000, bytes(256)) == ""
    assert board.mode == "off"
    assert board.flash() == bytes(100) + b"\xff" * 1400 + before[1500:]


def test_wrong_answers(board: BoardProcess, rom: Rom) -> None:
    assert rom.erase(0) == ACK
    board.do("fault", kind="wrong_status", command="program", status=0x1F)
    assert rom.write(0x0800_0000, bytes(4)) == NACK
    assert board.flash()[:4] == b"\xff" * 4
    board.do("fault", kind="drop_reply", command="program")
    assert rom.write(0x0800_0000, bytes(4)) == ""
    assert board.flash()[:4] == bytes(4)
    board.do("fault", kind="drop", command="erase")
    assert rom.erase(0) == ""
    assert board.flash()[:4] == bytes(4)
    board.do("fault", kind="corrupt", command="program", byte=9)
    assert rom.write(0x0800_0008, bytes(8)) == ACK
    assert board.flash()[8:16].hex() == "0010000000000000"
    board.do("fault", kind="garbage", command="identify")
    assert rom.port.ask("02fd", 5) == "8081828384"


def test_hanging_needs_a_reset(board: BoardProcess, rom: Rom) -> None:
    board.do("fault", kind="hang", command="identify")
    assert rom.port.ask("02fd", 5, timeout=0.2) == ""
    assert not board.ask("resume")["ok"]
    board.press()
    rom.sync()
    assert rom.port.ask("02fd", 5) == "7901041079"


def test_refused_bootloader_and_boot_loop(plug: Plug) -> None:
    board = plug(flash=f103())
    board.do("fault", kind="refuse_bootloader")
    board.do("press")
    assert board.mode == "application"
    board.do("fault", kind="boot_loop", count=3)
    resets = board.status("resets")
    board.do("tap")
    wait_for(lambda: board.status("resets") == resets + 4)
    assert board.mode == "application"


# The application, and Debian's stm32flash


@pytest.mark.parametrize(("kind", "mcu"), [("stm32f103", "stm32f103xe"), ("stm32f446", "stm32f446xx")])
def test_the_application_answers_identify(plug: Plug, kind: str, mcu: str) -> None:
    board = plug(kind=kind, flash=build_image("v0.13.0-5-g123", mcu=mcu))
    time.sleep(0.05)
    with Port(board.tty, 250000) as port:
        dictionary = identify(port)
    assert dictionary["version"] == "v0.13.0-5-g123"
    assert dictionary["config"]["MCU"] == mcu


@needs_stm32flash
@pytest.mark.parametrize(("kind", "mcu"), [("stm32f103", "stm32f103xe"), ("stm32f446", "stm32f446xx")])
def test_stm32flash_writes_verifies_and_reads_back(plug: Plug, tmp_path: Path, kind: str, mcu: str) -> None:
    """Over parity 8E1 and the modem lines that the lab's shim carries, entering by -i as on a real board."""
    size = 128 * KIB if kind == "stm32f103" else 512 * KIB
    board = plug("--wiring", "reset=dtr:1,boot=rts:1", kind=kind, flash=b"\x55" * size)
    image = build_image("v0.12.0", mcu=mcu, size=20 * KIB)
    new, back = tmp_path / "new.bin", tmp_path / "back.bin"
    new.write_bytes(image)
    # BOOT0 up, reset down and up, 0.1 s to start; at the end BOOT0 down, reset down and up.
    entry = ["-i", "rts,dtr,-dtr,:-rts,dtr,-dtr"]
    wrote = board.run("stm32flash", *entry, "-b", "115200", "-v", "-w", str(new), str(board.tty))
    print(wrote.stdout)
    assert wrote.returncode == 0, wrote.stdout + wrote.stderr
    assert "115200 8E1" in wrote.stdout
    assert board.flash()[: len(image)] == image
    wait_for(lambda: board.mode == "application")
    size_read = ["-S", f"0x08000000:{len(image)}"]
    read = board.run("stm32flash", *entry, "-b", "115200", *size_read, "-r", str(back), str(board.tty))
    assert read.returncode == 0, read.stdout + read.stderr
    assert back.read_bytes() == image


@needs_stm32flash
def test_stm32flash_protects_unprotects_and_erases(plug: Plug) -> None:
    board = plug(flash=f103())

    def stm32flash(*options: str) -> str:
        board.press()
        result = board.run("stm32flash", *options, str(board.tty))
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "Device ID    : 0x0410" in stm32flash()
    assert "Read-Protecting flash" in stm32flash("-j")
    wait_for(lambda: bool(board.status("read_protected")))
    assert board.flash()[:1000] == f103()[:1000]
    assert "Read-UnProtecting flash" in stm32flash("-k")
    wait_for(lambda: not board.status("read_protected"))
    assert board.flash() == b"\xff" * 128 * KIB
    board.stop()
    again = plug(flash=b"\x00" * 128 * KIB)
    again.press()
    result = again.run("stm32flash", "-o", str(again.tty))
    assert result.returncode == 0, result.stdout + result.stderr
    assert again.flash() == b"\xff" * 128 * KIB


@needs_stm32flash
def test_stm32flash_without_parity_gets_nowhere(plug: Plug) -> None:
    """The real chip's parity is even: 8N1 passes the first byte and then nothing."""
    board = plug("--bootloader", flash=f103())
    time.sleep(0.03)
    result = board.run("stm32flash", "-m", "8n1", str(board.tty))
    assert result.returncode != 0


@needs_stm32flash
def test_a_board_that_nobody_told_the_parity_believes_everything(plug: Plug) -> None:
    """Without the shim: the terminal carries none."""
    board = plug("--bootloader", flash=f103())
    time.sleep(0.03)
    result = board.run("stm32flash", "-m", "8n1", str(board.tty), shim=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0x0410" in result.stdout
