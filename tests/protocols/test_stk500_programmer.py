"""An AVR is found after a reset, in whichever version of STK500 it speaks, and written so that its bootloader erases.

The boards are scripts of ``optiboot.c`` (version 1) and of the Mega 2560's ``stk500boot.c`` (version 2).
"""

import struct
from collections.abc import Callable

import pytest
from scripted_port import ScriptedPort, ignore, nobody

from fleetflash.agent.port import LineStep
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError, VerifyError
from fleetflash.agent.protocols.programmer import Found, Target
from fleetflash.agent.protocols.stk500_programmer import RESET_PULSE, Stk500Programmer
from fleetflash.agent.protocols.stk500v2 import message
from fleetflash.agent.schema import Entry

LINES, BUTTON = Entry("lines"), Entry("button", deadline=5.0)
SIZE = 4096
IMAGE = bytes(range(253)) * 3


class Board(ScriptedPort):
    """One that says nothing.

    ``goes_after``: how many commands the bootloader takes before it leaves for the application, as if by itself.
    """

    page = 128
    signature = bytes.fromhex("1e950f")

    def __init__(self) -> None:
        super().__init__(self.say)
        self.mode = "application"
        self.flash = bytearray(SIZE)
        self.written_pages: list[int] = []
        self.goes_after = -1
        self.address = 0

    def play(self, steps: list[LineStep]) -> None:
        super().play(steps)
        assert steps == RESET_PULSE
        self.reset()

    def reset(self) -> None:
        self.mode = "bootloader"

    def say(self, written: bytes) -> bytes:
        if self.settings != [115200] * len(self.settings) or not self.settings or self.mode != "bootloader":
            return b""
        if self.goes_after == 0:
            self.mode, self.goes_after = "application", -1
            return b""
        self.goes_after -= 1
        return self.command(written)

    def command(self, written: bytes) -> bytes:
        return b""


class Optiboot(Board):
    def command(self, written: bytes) -> bytes:
        code, data = written[:1], written[1:-1]
        if written[-1:] != b" " or written[0] == 0x1B:
            self.mode = "application"
            return b""
        answer = b""
        if code == b"U":
            self.address = 2 * int(struct.unpack("<H", data)[0])
        elif code == b"u":
            answer = self.signature
        elif code == b"t":
            (size,) = struct.unpack(">H", data[:2])
            answer = bytes(self.flash[self.address : self.address + size])
        elif code == b"d":
            assert len(data) == 3 + self.page and self.address % self.page == 0
            self.flash[self.address : self.address + self.page] = data[3:]
            self.written_pages.append(self.address // self.page)
        elif code == b"Q":
            self.mode = "application"
        return b"\x14" + answer + b"\x10"


class Mega(Board):
    """It erases the next page in order, whatever address is loaded; programming clears bits only."""

    page = 256
    signature = bytes.fromhex("1e9801")

    def reset(self) -> None:
        super().reset()
        self.next_erased = 0

    def command(self, written: bytes) -> bytes:
        if written[0] != 0x1B:
            return b""
        body = written[5:-1]
        answer = b""
        if body[0] == 0x01:
            answer = b"\x08AVRISP_2"
        elif body[0] == 0x06:
            self.address = 2 * (int(struct.unpack(">I", body[1:])[0]) & 0x7FFF_FFFF)
        elif body[0] == 0x1B:
            answer = self.signature[body[4] : body[4] + 1] + b"\0"
        elif body[0] == 0x14:
            (size,) = struct.unpack(">H", body[1:3])
            answer = bytes(self.flash[self.address : self.address + size]) + b"\0"
        elif body[0] == 0x13:
            self.flash[self.next_erased : self.next_erased + self.page] = b"\xff" * self.page
            self.next_erased += self.page
            for index, byte in enumerate(body[10:]):
                self.flash[self.address + index] &= byte
            self.written_pages.append(self.address // self.page)
        elif body[0] == 0x11:
            self.mode = "application"
        return message(written[1], body[:1] + b"\0" + answer)


class LampFirst(Board):
    """Its bootloader flashes a lamp before it listens, so its first answer comes late, and each one after that."""

    late = b""
    flashes = True

    def reset(self) -> None:
        super().reset()
        self.shines = False

    def say(self, written: bytes) -> bytes:
        answer = super().say(written)
        self.shines = bool(answer) and self.flashes
        if self.shines or self.late:
            answer, self.late, self.flashes = self.late, answer, False
        return answer

    def read(self, size: int, timeout: float) -> bytes:
        if not self._input and not self.shines:
            self._input, self.late = self.late, b""
        return super().read(size, timeout)


class LampFirstOptiboot(LampFirst, Optiboot): ...


class LampFirstMega(LampFirst, Mega): ...


BOARDS = [Optiboot, Mega]


def programmer_of(board: Board, size: int = SIZE) -> Stk500Programmer:
    return Stk500Programmer(board, Target(size=size), lambda: board)


def entered(board: Board, **target: int) -> Stk500Programmer:
    programmer = programmer_of(board, **target)
    programmer.enter(LINES, nobody)
    return programmer


@pytest.mark.parametrize("kind", BOARDS)
def test_board_is_reset_and_found_in_the_version_that_it_speaks(kind: Callable[[], Board]) -> None:
    board = kind()
    assert entered(board).probe() == Found(board.signature.hex(), "")
    assert board.played == [RESET_PULSE] and board.settings == [115200]


@pytest.mark.parametrize("kind", [LampFirstOptiboot, LampFirstMega])
def test_answer_to_an_earlier_try_is_not_taken_for_that_to_the_next_command(kind: Callable[[], Board]) -> None:
    board = kind()
    assert entered(board).probe() == Found(board.signature.hex(), "")


@pytest.mark.parametrize("kind", BOARDS)
def test_image_is_written_in_whole_pages_read_back_and_started(kind: Callable[[], Board]) -> None:
    board = kind()
    programmer = entered(board)
    steps: list[tuple[int, int]] = []
    programmer.write(IMAGE, lambda done, total: steps.append((done, total)))
    programmer.verify(IMAGE, ignore)
    pages = -(-len(IMAGE) // board.page)
    assert board.written_pages == list(range(pages))
    assert bytes(board.flash[: len(IMAGE)]) == IMAGE and steps[-1] == (pages * board.page,) * 2
    assert not any(board.flash[pages * board.page :])
    board.flash[200] ^= 1
    with pytest.raises(VerifyError, match="verify at 0xc8"):
        programmer.verify(IMAGE, ignore)
    programmer.reset()
    assert board.mode == "application" and board.played == [RESET_PULSE]


@pytest.mark.parametrize("kind", BOARDS)
def test_second_image_in_one_session_is_written_as_well_as_the_first(kind: Callable[[], Board]) -> None:
    """The Mega's bootloader erases from page 0 on only after a reset."""
    board = kind()
    programmer = entered(board)
    programmer.write(bytes(len(IMAGE)), ignore)
    programmer.write(IMAGE, ignore)
    programmer.verify(IMAGE, ignore)


@pytest.mark.parametrize("kind", BOARDS)
def test_bootloader_that_has_gone_back_to_the_application_is_fetched_again(kind: Callable[[], Board]) -> None:
    """Its watchdog, while the journal was written."""
    board = kind()
    programmer = entered(board)
    programmer.probe()
    board.mode = "application"
    programmer.write(IMAGE, ignore)
    board.goes_after = 0
    programmer.verify(IMAGE, ignore)
    assert len(board.played) == 3


@pytest.mark.parametrize("kind", BOARDS)
def test_bootloader_that_goes_while_it_writes_is_an_error_and_the_next_attempt_works(kind: Callable[[], Board]) -> None:
    board = kind()
    programmer = entered(board)
    board.goes_after = 4
    with pytest.raises(NoAnswerError):
        programmer.write(IMAGE, ignore)
    programmer.write(IMAGE, ignore)
    programmer.verify(IMAGE, ignore)


@pytest.mark.parametrize("kind", BOARDS)
def test_backup_is_the_flash_below_the_bootloader_without_its_erased_end(kind: Callable[[], Board]) -> None:
    board = kind()
    board.flash[:] = b"\xff" * SIZE
    board.flash[:1000] = bytes(1000)
    found = entered(board, size=SIZE - 512).read(ignore)
    assert found == bytes(1000) + b"\xff" * 24
    assert entered(board, size=SIZE - 512).read(ignore) == found and board.written_pages == []


@pytest.mark.parametrize("kind", BOARDS)
def test_image_that_would_overwrite_the_bootloader_is_refused(kind: Callable[[], Board]) -> None:
    board = kind()
    with pytest.raises(RefusedError, match=r"below the bootloader are 3584; nothing was erased"):
        entered(board, size=3584).write(bytes(3585), ignore)
    assert board.written_pages == []


def test_board_that_no_reset_brings_up_is_told_to_need_a_button() -> None:
    board = Board()
    with pytest.raises(NoAnswerError, match=r"version 1 or 2 at 115200 bit/s.*entry = \"button\""):
        entered(board)
    with pytest.raises(NoAnswerError, match="no way to enter it"):
        programmer_of(board).enter(Entry("none"), nobody)


@pytest.mark.parametrize("kind", BOARDS)
def test_person_resets_a_board_even_when_its_bootloader_listens_already(kind: Callable[[], Board]) -> None:
    """Nobody knows what it has programmed before, and only a reset makes it begin at page 0."""
    board = kind()
    board.reset()
    asked: list[str] = []

    def ask(gesture: str, seconds: float) -> None:
        assert board.mode == "application"
        asked.append(gesture)
        board.reset()

    programmer_of(board).enter(BUTTON, ask)
    assert asked == ["tap RESET"]


@pytest.mark.parametrize("kind", BOARDS)
def test_a_bootloader_leaves_when_told_and_what_does_not_answer_is_reset(kind: Callable[[], Board]) -> None:
    board = kind()
    board.reset()
    programmer_of(board).leave()
    assert board.played == [] and board.mode == "application"
    programmer_of(board).leave()  # it could as well be a bootloader that hangs
    assert board.played == [RESET_PULSE]


def test_lock_bits_are_not_lifted() -> None:
    with pytest.raises(ProtocolError, match="can't lift lock bits"):
        programmer_of(Optiboot()).unprotect(LINES, nobody)
