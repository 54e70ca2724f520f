"""A board goes in and out of its bootloader, gets exactly its image, and is never touched when it is another one.

The board is the simulated BMCU-C: a process of its own, which shares no code with the flasher.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from simulated_board import UID, SimulatedBoard, WiredPort

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.port import LineStep, PortError
from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, WrongChipError
from fleetflash.agent.protocols.programmer import Target
from fleetflash.agent.protocols.wch_isp_programmer import WchIspProgrammer
from fleetflash.agent.protocols.wirings import ALL_WIRINGS, entry_sequence, reset_sequence
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image
from fleetflash.lab.image import build_image

OLD = build_image("v1", size=4 * 1024)
NEW = build_image("v2", size=5 * 1024 + 12)
USUAL = "reset=rts:0,boot=dtr:0"
FLASH = 64 * 1024

Plug = Callable[..., SimulatedBoard]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the board's own has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    boards: list[SimulatedBoard] = []

    def start(*options: str, image: bytes = OLD, protected: bool = False) -> SimulatedBoard:
        boards.append(SimulatedBoard(tmp_path / str(len(boards)), *options, image=image, protected=protected))
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError(f"nobody is asked to {gesture}")


def ignore(done: int, total: int) -> None:
    pass


def described(board: SimulatedBoard, **changes: object) -> BoardOnPort:
    """The board as a transaction describes it."""
    image = Image(artifact="a", sha256="0" * 64, size=len(NEW), version="v2")
    fields: dict[str, object] = {
        "name": "bmcu",
        "port": str(board.tty),
        "device": str(board.tty),
        "chip": "ch32v203c8t6",
        "chip_ids": ["19:31"],
        "flash_size": FLASH,
        "programmer": "wch_isp",
        "entry": Entry("lines", USUAL),
        "expected": Firmware("identify", "v1"),
        "wanted": image,
        "way_back": None,
        **changes,
    }
    return BoardOnPort(BoardTransaction(**fields), lambda device, baud: board.open(device, baud))  # type: ignore[arg-type]


def programmer_on(port: Any) -> WchIspProgrammer:
    return WchIspProgrammer(port, Target(size=FLASH), lambda: port)


def flash(board: BoardOnPort, image: bytes) -> None:
    with board.in_bootloader(nobody, "") as session:
        session.unprotect_if_asked(nobody)
        session.write(image, lambda phase: ignore)
        session.programmer.reset()


def runs(board: SimulatedBoard, version: str) -> bool:
    port = board.open(baudrate=250000)
    try:
        return klipper.identify(port).version == version
    finally:
        port.close()


def untouched(board: SimulatedBoard) -> bool:
    return board.status("erases") == board.status("programs") == 0 and board.flash.read_bytes()[: len(OLD)] == OLD


def test_whole_flash_leaves_exactly_the_image_and_the_board_running_it(plug: Plug) -> None:
    board = plug().wait()
    asked: list[str] = []
    with described(board).in_bootloader(lambda gesture, seconds: asked.append(gesture), "") as session:
        assert session.uid == UID
        phases: dict[str, tuple[int, int]] = {}
        session.write(NEW, lambda phase: lambda done, total: phases.update({phase: (done, total)}))
        session.programmer.reset()
    assert asked == []
    # The last chunk is filled up to a multiple of eight; the erased rest of the sector stays erased.
    assert board.flash.read_bytes()[:8192] == NEW + b"\xff" * (8192 - len(NEW))
    assert phases == {"program": (5136, 5136), "verify": (5136, 5136)}
    assert runs(board, "v2")


@pytest.mark.parametrize(
    ("chip_id", "uid", "words"),
    [
        ("19:30", "", ["found chip 19:31", "expected 19:30", "nothing was erased"]),
        ("19:31", "0123456789abcdef", [f"unique id {UID}", "expected 0123456789abcdef", f"uid = '{UID}'"]),
    ],
)
def test_another_chip_or_another_board_is_left_as_it_was(plug: Plug, chip_id: str, uid: str, words: list[str]) -> None:
    board = plug().wait()
    with pytest.raises(WrongChipError) as caught, described(board, chip_ids=[chip_id]).in_bootloader(nobody, uid):
        raise AssertionError("entered")
    assert all(word in str(caught.value) for word in [*words, "bmcu", str(board.tty)])
    assert untouched(board)
    assert runs(board, "v1")


def test_another_board_is_told_as_such_even_when_it_does_not_reset(plug: Plug) -> None:
    board = plug().wait()
    board.do("fault", kind="hang", command="end")
    board.do("press")
    with pytest.raises(WrongChipError), described(board, entry=Entry("none")).in_bootloader(nobody, "00"):
        raise AssertionError("entered")
    assert untouched(board)


def test_image_larger_than_the_flash_is_refused_before_anything_is_erased(plug: Plug) -> None:
    board = plug().wait()
    words = f"{len(NEW)} bytes, the flash {len(NEW) - 1}"
    small = described(board, flash_size=len(NEW) - 1)
    with small.in_bootloader(nobody, "") as session, pytest.raises(ProtocolError, match=words):
        session.write(NEW, lambda phase: ignore)
    assert untouched(board)


# Entering and leaving


def test_all_eight_wirings_are_found_and_obeyed(plug: Plug) -> None:
    """Found means: it leads in and out again. Four of the sequences also enter boards that are wired otherwise."""
    boards = {wiring: plug("--wiring", wiring) for wiring in ALL_WIRINGS}
    assert len(boards) == 8

    def check(wiring: str) -> str:
        board = boards[wiring].wait()
        port = board.open()
        try:
            programmer = programmer_on(port)
            programmer.enter(Entry("lines"), nobody)
            if board.status("mode") != "bootloader" or programmer.wiring != wiring:
                return f"{wiring}: found {programmer.wiring}"
            port.play(reset_sequence(wiring))
            if board.status("mode") != "application":
                return f"{wiring}: reset leads to {board.status('mode')}"
            time.sleep(0.05)
            programmer.enter(Entry("lines", wiring), nobody)
            if programmer.probe().uid != UID:
                return f"{wiring}: given, but not entered"
        except NoAnswerError as error:
            return str(error)
        finally:
            port.close()
        return "" if untouched(board) else f"{wiring}: touched"

    with ThreadPoolExecutor(8) as pool:
        assert [problem for problem in pool.map(check, boards) if problem] == []


class DeafPort:
    """A port behind which no bootloader answers; it remembers how its lines were moved."""

    name = "/dev/ttyTEST"

    def __init__(self) -> None:
        self.played: list[list[LineStep]] = []

    def read(self, size: int, timeout: float) -> bytes:
        return b""

    def write(self, data: bytes) -> None: ...
    def discard_input(self) -> None: ...
    def set_baudrate(self, baudrate: int) -> None: ...
    def close(self) -> None: ...

    def play(self, steps: list[LineStep]) -> None:
        self.played.append(steps)


def test_board_that_no_wiring_enters_is_told_to_need_a_button_and_let_go() -> None:
    port = DeafPort()
    with pytest.raises(NoAnswerError, match=r'all 8 wirings of DTR and RTS tried.*entry = "button"'):
        programmer_on(port).enter(Entry("lines"), nobody)
    assert {str(steps) for steps in port.played[:-1]} == {str(entry_sequence(wiring)) for wiring in ALL_WIRINGS}
    assert port.played[-1] == [(True, True, 0.0)]


def test_only_the_wiring_that_the_inventory_names_is_tried() -> None:
    port = DeafPort()
    with pytest.raises(NoAnswerError, match=f"wiring {USUAL} tried"):
        programmer_on(port).enter(Entry("lines", USUAL), nobody)
    assert all(steps == entry_sequence(USUAL) for steps in port.played[:-1])
    with pytest.raises(NoAnswerError, match=r"no way to enter it"):
        programmer_on(port).enter(Entry("none"), nobody)


def test_person_is_asked_once_and_waited_for(plug: Plug) -> None:
    board = plug("--entry", "button").wait()
    asked: list[tuple[str, float]] = []

    def ask(gesture: str, seconds: float) -> None:
        asked.append((gesture, seconds))
        board.do("press")

    port = board.open()
    try:
        programmer_on(port).enter(Entry("button", deadline=10.0), ask)
        assert asked == [("hold B (BOOT0), tap R (RESET), then let go of B", 10.0)]
        # Already there: nobody is asked again.
        programmer_on(port).enter(Entry("button"), nobody)
    finally:
        port.close()


def test_person_who_does_not_come_is_waited_for_until_the_deadline_and_no_longer() -> None:
    started = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"nobody brought the board into its bootloader within 0.3 s"):
        programmer_on(DeafPort()).enter(Entry("button", deadline=0.3), lambda gesture, seconds: None)
    assert 0.3 < time.monotonic() - started < 20


def test_board_left_in_its_bootloader_at_the_fast_rate_needs_nobody(plug: Plug) -> None:
    """A writer that was killed has switched the bootloader to 1 Mbaud: the way back goes on from there."""
    board = plug("--entry", "button", "--bootloader").wait()
    time.sleep(0.05)
    port = board.open()
    killed = programmer_on(port)
    killed.enter(Entry("button"), nobody)
    killed.write(NEW[:1024], ignore)
    port.close()
    flash(described(board, entry=Entry("button")), OLD)
    assert runs(board, "v1")


@pytest.mark.parametrize("fault", ["hang", "garbage"])
def test_bootloader_that_does_not_obey_is_reset_by_its_lines(plug: Plug, fault: str) -> None:
    board = plug().wait()
    board.do("fault", kind=fault, command="end")
    flash(described(board), NEW)
    assert runs(board, "v2")


def test_board_that_runs_its_application_is_not_disturbed_by_being_told_to_leave(plug: Plug) -> None:
    board = plug().wait()
    resets = board.status("resets")
    described(board).leave_bootloader()
    assert board.status("resets") == resets
    board.do("press")
    time.sleep(0.05)
    described(board).leave_bootloader()
    assert runs(board, "v1")


@pytest.mark.parametrize("wiring", ["", "reset=rts:0", "reset=rts:2,boot=dtr:0", "reset=rts:0,boot=rts:1", "nonsense"])
def test_wiring_that_makes_no_sense_is_an_error_with_an_example(wiring: str) -> None:
    with pytest.raises(ValueError, match=r"expected e.g. 'reset=rts:0,boot=dtr:0'"):
        entry_sequence(wiring)


# Protection


def test_protected_chip_is_left_as_it_was_unless_the_inventory_says_otherwise(plug: Plug) -> None:
    board = plug(protected=True).wait()
    with pytest.raises(ProtectedError, match=r"bmcu on .*unprotect = True"), described(board).in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert untouched(board)
    assert runs(board, "v1")


def test_protection_is_lifted_when_the_inventory_says_so(plug: Plug) -> None:
    board = plug(protected=True).wait()
    flash(described(board, unprotect=True), NEW)
    assert not board.status("read_protected")
    assert runs(board, "v2")


def test_board_that_is_not_protected_is_not_erased_to_lift_a_protection(plug: Plug) -> None:
    board = plug().wait()
    with described(board, unprotect=True).in_bootloader(nobody, "") as session:
        session.unprotect_if_asked(nobody)
    assert untouched(board)


def test_button_is_asked_for_again_after_the_protection_is_lifted(plug: Plug) -> None:
    """The option bytes take effect with a reset, and that leaves the bootloader."""
    board = plug("--entry", "button", "--bootloader", protected=True).wait()
    time.sleep(0.05)
    asked = []

    def ask(gesture: str, seconds: float) -> None:
        asked.append(gesture)
        board.do("press")

    with described(board, unprotect=True, entry=Entry("button", deadline=10.0)).in_bootloader(ask, "") as session:
        assert asked == []
        session.unprotect_if_asked(ask)
        assert not session.programmer.probe().protected
    assert len(asked) == 1


def test_port_is_released_whatever_happens(plug: Plug) -> None:
    board = plug().wait()
    ports: list[WiredPort] = []

    def open_port(device: str, baud: int) -> WiredPort:
        ports.append(board.open(device, baud))
        return ports[-1]

    on_port = BoardOnPort(described(board).board, open_port)
    with pytest.raises(ZeroDivisionError), on_port.in_bootloader(nobody, ""):
        raise ZeroDivisionError
    with pytest.raises(PortError, match=r"closed"):
        ports[0].read(1, 0)
