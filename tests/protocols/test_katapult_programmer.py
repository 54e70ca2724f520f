"""A board behind Katapult is asked, followed to its new port, written where its applications begin, and left.

The board is a script of Katapult's ``protocol.md`` and of Klipper's ``docs/Bootloader_Entry.md``.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from scripted_port import NAME, ScriptedPort, ignore, nobody

from fleetflash.agent.port import LineStep, PortError
from fleetflash.agent.protocols import katapult, katapult_programmer
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError, VerifyError, WrongChipError
from fleetflash.agent.protocols.katapult import frame
from fleetflash.agent.protocols.katapult_programmer import KatapultProgrammer
from fleetflash.agent.protocols.programmer import Found, Target
from fleetflash.agent.schema import Entry

BASE, OFFSET, SIZE, BLOCK = 0x0800_0000, 0x2000, 4096, 64
IMAGE = bytes(range(250)) * 4
#: The block that ends with the word of an STM32F103's flash size register (RM0008, "Device electronic signature").
SIGNATURE = 0x1FFF_F7E4 - BLOCK
REQUEST, BUTTON = Entry("request"), Entry("button", deadline=5.0)


class Board:
    """``usb``: it changes its port with its mode. ``hears``: what its application takes for the request."""

    def __init__(self, usb: bool = False, hears: str = "string", mode: str = "application") -> None:
        self.usb, self.hears, self.mode = usb, hears, mode
        self.start = BASE + OFFSET
        self.flash = bytearray(b"\xff" * SIZE)
        self.blocks: list[int] = []
        self.reads: list[int] = []
        self.kib = 64
        self.hangs = False
        self.ended = False
        self.away = 0
        self.numbers = itertools.count()
        self.port = self.plug()

    def plug(self) -> "BoardPort":
        return BoardPort(self, f"{NAME}{next(self.numbers)}" if self.usb else NAME)

    def become(self, mode: str) -> None:
        self.mode = mode
        if self.usb:
            self.port.broken = PortError(f"{self.port.name}: unplugged")
            self.port = self.plug()
            self.away = 2

    def reopen(self) -> ScriptedPort:
        """As the agent opens a port by its name: for a moment it is not there, or still the one that has gone."""
        self.away -= 1
        if self.away >= 0:
            raise PortError("no such port")
        if self.port.closed:
            self.port = self.plug()
        return self.port

    def answer(self, written: bytes) -> bytes:
        if self.mode == "hangs":
            return b""
        if self.mode == "application":
            if self.hears == "string" and written == katapult.REQUEST:
                self.become("bootloader")
            return b""
        command, payload = written[2], written[4:-4]
        if frame(command, payload) != written:
            return frame(katapult.NACK)
        text = b"stm32f103xe\0v0.0.1\0\0"
        answers: dict[int, Any] = {
            0x11: lambda: struct.pack("<3I", 0x0001_0100, self.start, BLOCK) + text + bytes(-len(text) % 4),
            0x12: lambda: self.write(payload),
            0x13: self.end,
            0x14: lambda: self.read(payload),
            0x15: self.complete,
        }
        answer = answers[command]()
        if self.mode == "hangs":
            return b""
        return answer if answer[:2] == katapult.HEADER else frame(katapult.ACK, struct.pack("<I", command) + answer)

    def write(self, payload: bytes) -> bytes:
        (address,) = struct.unpack_from("<I", payload)
        if not self.start <= address <= self.start + SIZE - BLOCK:
            return frame(katapult.FAILED)
        self.flash[address - self.start : address - self.start + BLOCK] = payload[4:]
        self.blocks.append(address)
        return payload[:4]

    def read(self, payload: bytes) -> bytes:
        (address,) = struct.unpack("<I", payload)
        if address == SIGNATURE:
            return payload + bytes(BLOCK - 4) + struct.pack("<HH", self.kib, 0)
        if self.hangs and address >= self.start + SIZE // 2:
            self.mode = "hangs"
            return b""
        assert self.start <= address <= self.start + SIZE - BLOCK, "the chip faults"
        self.reads.append(address)
        return payload + bytes(self.flash[address - self.start : address - self.start + BLOCK])

    def end(self) -> bytes:
        self.ended = True
        return struct.pack("<I", 1)

    def complete(self) -> bytes:
        port = self.port
        self.become("application")
        if self.usb:
            # The answer arrives before the device has gone.
            port.broken, port.last_words = None, True
        return b""


class BoardPort(ScriptedPort):
    def __init__(self, board: Board, name: str) -> None:
        super().__init__(board.answer, name)
        self.board = board
        self.last_words = False
        self.released = False

    def read(self, size: int, timeout: float) -> bytes:
        data = super().read(size, timeout)
        if not data and self.last_words:
            raise PortError(f"{self.name}: unplugged")
        return data

    def play(self, steps: list[LineStep]) -> None:
        super().play(steps)
        for dtr, _, _ in steps:
            self.released = self.released if dtr is None else not dtr
            if self.released and self.settings[-1:] == [1200] and self.board.hears == "touch":
                self.board.become("bootloader")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(katapult_programmer, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(katapult_programmer, "TOUCH_SECONDS", 0.2)
    monkeypatch.setattr(katapult_programmer, "RETURN_SECONDS", 0.2)
    monkeypatch.setattr(katapult_programmer, "REOPEN_PAUSE", 0.001)
    yield


def programmer_of(board: Board, offset: int = OFFSET) -> KatapultProgrammer:
    return KatapultProgrammer(board.port, Target(BASE, offset, SIZE, 250000), board.reopen)


@pytest.mark.parametrize("hears", ["string", "touch"])
@pytest.mark.parametrize("usb", [False, True])
def test_running_firmware_is_asked_in_every_way_and_followed_to_its_new_port(usb: bool, hears: str) -> None:
    board = Board(usb, hears)
    programmer = programmer_of(board)
    programmer.enter(REQUEST, nobody)
    assert board.mode == "bootloader" and programmer.port is board.port
    assert programmer.probe() == Found("stm32f103xe", "")
    assert board.blocks == []


def test_firmware_that_is_still_starting_is_asked_again() -> None:
    board = Board()
    answer, deaf = board.answer, iter([True, True])
    board.port.answer = lambda written: b"" if written == katapult.REQUEST and next(deaf, False) else answer(written)
    programmer_of(board).enter(REQUEST, nobody)
    assert board.mode == "bootloader" and board.port.settings == []


def test_board_that_waits_in_its_bootloader_is_not_asked() -> None:
    board = Board(mode="bootloader")
    programmer_of(board).enter(REQUEST, nobody)
    assert katapult.REQUEST not in board.port.written and board.port.settings == []


def test_firmware_that_does_not_hear_gets_its_rate_and_its_lines_back() -> None:
    board = Board(hears="nothing")
    with pytest.raises(NoAnswerError, match=r"did not enter Katapult when asked.*press RESET twice"):
        programmer_of(board).enter(REQUEST, nobody)
    assert board.port.settings == [1200, 250000] and not board.port.released
    with pytest.raises(NoAnswerError, match="no way to enter it"):
        programmer_of(board).enter(Entry("none"), nobody)


@pytest.mark.parametrize("usb", [False, True])
def test_person_is_asked_to_reset_twice_and_the_board_is_followed(usb: bool) -> None:
    board = Board(usb, hears="nothing")
    asked: list[str] = []

    def ask(gesture: str, seconds: float) -> None:
        asked.append(gesture)
        board.become("bootloader")

    programmer = programmer_of(board)
    programmer.enter(BUTTON, ask)
    assert asked == ["press RESET twice within half a second"] and programmer.port is board.port


def test_board_that_never_comes_back_is_an_error_of_its_port() -> None:
    board = Board(usb=True)
    board.reopen = lambda: (_ for _ in ()).throw(PortError("port p is not there"))  # type: ignore[method-assign]
    with pytest.raises(PortError, match="port p is not there"):
        programmer_of(board).enter(REQUEST, nobody)


@pytest.mark.parametrize("usb", [False, True])
def test_image_is_written_in_order_verified_and_started(usb: bool) -> None:
    board = Board(usb)
    programmer = programmer_of(board)
    programmer.enter(REQUEST, nobody)
    steps: list[tuple[int, int]] = []
    programmer.write(IMAGE, lambda done, total: steps.append((done, total)))
    assert board.blocks == list(range(board.start, board.start + 1024, BLOCK)) and board.ended
    assert bytes(board.flash[:1024]) == IMAGE + b"\xff" * 24
    assert steps[-1] == (1024, 1024) and len(steps) == 16
    programmer.verify(IMAGE, ignore)
    programmer.reset()
    assert board.mode == "application"
    programmer.port.write(b"it can be talked to")


def test_wrong_application_start_is_told_before_anything_is_erased() -> None:
    board = Board(mode="bootloader")
    programmer = programmer_of(board, offset=0x7000)
    for attempt in (programmer.probe, lambda: programmer.write(IMAGE, ignore)):
        with pytest.raises(WrongChipError, match=r"0x08002000, expected 0x08007000.*Set flash_offset = 0x2000"):
            attempt()
    assert board.blocks == []


def test_difference_is_told_with_its_address() -> None:
    board = Board(mode="bootloader")
    programmer = programmer_of(board)
    programmer.write(IMAGE, ignore)
    board.flash[100] ^= 1
    with pytest.raises(VerifyError, match=r"verify at 0x08002064"):
        programmer.verify(IMAGE, ignore)


def test_backup_is_the_whole_region_without_the_erased_blocks_at_its_end() -> None:
    board = Board(mode="bootloader")
    programmer = programmer_of(board)
    board.flash[: len(IMAGE)] = IMAGE
    board.flash[2000] = 0
    found = programmer.read(ignore)
    assert found == bytes(board.flash[:2048])
    assert board.reads == list(range(board.start, board.start + SIZE, BLOCK))
    board.flash[:] = b"\xff" * SIZE
    programmer.write(found, ignore)
    assert programmer.read(ignore) == found


@pytest.mark.parametrize(("kib", "blocks"), [(10, 32), (8, 0), (0xFFFF, 64), (0, 64)])
def test_backup_ends_where_the_chip_says_that_its_flash_does(kib: int, blocks: int) -> None:
    """A read beyond it would hang the bootloader for good; a register that says nothing changes nothing."""
    board = Board(mode="bootloader")
    board.kib = kib
    if blocks:
        programmer_of(board).read(ignore)
    else:
        with pytest.raises(
            WrongChipError, match=r"8192 bytes of flash.*begin at offset 0x2000.*correct the board's chip"
        ):
            programmer_of(board).read(ignore)
    assert len(board.reads) == blocks


def test_bootloader_that_hangs_beyond_its_flash_is_an_error_that_says_so() -> None:
    board = Board(mode="bootloader")
    board.hangs = True
    with pytest.raises(NoAnswerError, match=r"read block at 0x08002800.*after 2048 bytes.*cycle the board's power"):
        programmer_of(board).read(ignore)


def test_backup_of_an_empty_flash_is_empty() -> None:
    assert programmer_of(Board(mode="bootloader")).read(ignore) == b""


def test_bootloader_that_fails_to_write_is_believed() -> None:
    board = Board(mode="bootloader")
    with pytest.raises(RefusedError, match="send block at 0x08003000"):
        programmer_of(board).write(bytes(SIZE + 1), ignore)


def test_lost_answer_to_complete_does_not_matter_when_the_application_runs() -> None:
    board = Board(mode="bootloader")
    answer = board.answer

    def lose(written: bytes) -> bytes:
        found = answer(written)
        return b"" if written == frame(katapult.COMPLETE) else found

    board.port.answer = lose
    programmer_of(board).reset()
    assert board.mode == "application"


def test_complete_that_arrived_garbled_is_said_again() -> None:
    board = Board(mode="bootloader")
    answer, first = board.answer, iter([frame(katapult.NACK)])
    board.port.answer = lambda written: (
        next(first, None) or answer(written) if written == frame(katapult.COMPLETE) else answer(written)
    )
    programmer_of(board).reset()
    assert board.mode == "application"


def test_leaving_a_running_application_is_nothing() -> None:
    board = Board()
    programmer_of(board).leave()
    assert board.mode == "application" and frame(katapult.COMPLETE) not in board.port.written
    board.become("bootloader")
    programmer_of(board).leave()
    assert board.mode == "application"


def test_protection_is_not_katapults() -> None:
    with pytest.raises(ProtocolError, match="knows no read protection"):
        programmer_of(Board(mode="bootloader")).unprotect(REQUEST, nobody)
