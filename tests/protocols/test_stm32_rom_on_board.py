"""A simulated STM32 is entered, backed up, written, verified and taken back, and left alone otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from board_process import BoardProcess
from programmed_board import backup, described, flash, ignore, nobody, open_port, running, settle

from fleetflash.agent import board as board_module
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, VerifyError, WrongChipError
from fleetflash.agent.schema import Entry
from fleetflash.lab.image import build_image

UID = "414e3331353500112233aabb"
USUAL = "reset=rts:0,boot=dtr:0"
KIB = 1024
CHIPS = {
    "stm32f103": ("stm32f103xb", "0410", 128 * KIB, "stm32f103xe"),
    "stm32f446": ("stm32f446xe", "0421", 512 * KIB, "stm32f446xx"),
}
KINDS = sorted(CHIPS)

Plug = Callable[..., BoardProcess]


def image(kind: str, version: str, size: int = 6 * KIB + 20) -> bytes:
    return build_image(version, mcu=CHIPS[kind][3], size=size)


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the board's own has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    boards: list[BoardProcess] = []

    def start(kind: str = "stm32f103", *options: str, version: str = "v1") -> BoardProcess:
        boards.append(BoardProcess(kind, tmp_path / kind, "--uid", UID, *options, flash=image(kind, version)))
        settle()
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def on(board: BoardProcess, kind: str = "stm32f103", **changes: Any) -> BoardOnPort:
    chip, product_id, size, _ = CHIPS[kind]
    fields: dict[str, Any] = {
        "chip": chip,
        "chip_ids": [product_id],
        "flash_size": size,
        "programmer": "stm32_rom",
        "entry": Entry("lines", USUAL),
        "flash_base": 0x0800_0000,
        **changes,
    }
    return described(board, image(kind, "v2"), **fields)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_flash_leaves_exactly_the_image_and_the_board_running_it(plug: Plug, kind: str) -> None:
    board, new = plug(kind), image(kind, "v2")
    described_board = on(board, kind)
    with described_board.in_bootloader(nobody, "") as session:
        assert session.uid == UID
        session.write(new, lambda phase: ignore)
        session.programmer.reset()
    assert board.flash()[: len(new)] == new
    assert running(described_board) == "v2"


def test_sectors_that_the_image_does_not_need_keep_what_they_hold(plug: Plug) -> None:
    board = plug()
    old = board.flash()
    new = image("stm32f103", "v2", size=2 * KIB + 1)
    flash(on(board), new)
    assert board.flash()[: 3 * KIB] == new.ljust(3 * KIB, b"\xff")
    assert board.flash()[3 * KIB :] == old[3 * KIB :]


def test_backup_is_what_the_board_ran_and_takes_it_back(plug: Plug) -> None:
    board = plug()
    target = on(board, flash_size=16 * KIB)
    before = board.flash()
    saved = backup(target)
    assert before.startswith(saved) and set(before[len(saved) :]) == {0xFF}
    flash(target, image("stm32f103", "v2"))
    assert running(target) == "v2"
    flash(target, saved, uid=UID)
    assert running(target) == "v1" and board.flash()[: len(saved)] == saved


@pytest.mark.parametrize(("chip_ids", "uid"), [(["0414"], ""), (["0410"], "00" * 12)])
def test_another_chip_or_another_board_is_left_as_it_was(plug: Plug, chip_ids: list[str], uid: str) -> None:
    board = plug()
    before = board.flash()
    target = on(board, chip_ids=chip_ids)
    with pytest.raises(WrongChipError, match="nothing was erased"), target.in_bootloader(nobody, uid):
        raise AssertionError("entered")
    assert board.flash() == before and running(target) == "v1"


def test_board_of_any_wiring_is_entered_and_left(plug: Plug) -> None:
    board = plug("stm32f103", "--wiring", "reset=dtr:0,boot=rts:0")
    target = on(board, entry=Entry("lines"))
    flash(target, image("stm32f103", "v2"))
    assert running(target) == "v2"


def test_board_without_wires_is_started_by_go(plug: Plug) -> None:
    board = plug("stm32f103", "--entry", "button")
    target = on(board, entry=Entry("button", deadline=10.0))
    with target.in_bootloader(lambda gesture, seconds: board.press(), "") as session:
        session.write(image("stm32f103", "v2"), lambda phase: ignore)
        session.programmer.reset()
    assert board.mode == "application" and running(target) == "v2"


def test_placement_controller_writes_through_a_port_on_which_only_the_identity_was_asked(plug: Plug) -> None:
    """As ``link.transaction`` does it: the host has entered, the controller probes, writes and verifies."""
    board = plug()
    new = image("stm32f103", "v2")
    target = on(board)
    with target.in_bootloader(nobody, "") as session:
        here = board_module.PROGRAMMERS["stm32_rom"](session.port, session.programmer.target, lambda: session.port)  # type: ignore[attr-defined]
        assert here.probe().uid == UID
        here.write(new, ignore)
        here.verify(new, ignore)
        session.programmer.reset()
    assert running(target) == "v2"


# Faults


def test_corrupted_page_is_found_by_reading_it_back(plug: Plug) -> None:
    board = plug()
    board.do("fault", kind="corrupt", command="program", byte=1000)
    target = on(board)
    with pytest.raises(VerifyError, match=r"verify at 0x080003"):
        flash(target, image("stm32f103", "v2"))
    flash(target, image("stm32f103", "v1"))
    assert running(target) == "v1"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *(("program", kind) for kind in ("wrong_status", "drop", "drop_reply", "garbage", "hang")),
        *(("erase", "wrong_status"), ("erase", "drop"), ("read", "drop_reply"), ("read", "garbage")),
    ],
)
def test_every_fault_is_a_typed_error_and_the_next_attempt_succeeds(plug: Plug, command: str, kind: str) -> None:
    board = plug()
    target = on(board)
    flash(target, image("stm32f103", "v2"))
    fields = {"byte": 2000} if command == "program" else {}
    board.do("fault", kind=kind, command=command, **fields)
    with pytest.raises(ProtocolError, match=r"^/dev/"):
        flash(target, image("stm32f103", "v3"))
    board.do("clear_faults")
    flash(target, image("stm32f103", "v1"))
    assert running(target) == "v1"


def test_power_cut_in_the_middle_is_an_error_and_the_way_back_works(plug: Plug) -> None:
    board = plug()
    target = on(board)
    board.do("fault", kind="power_cut", command="program", byte=3000)
    with pytest.raises(ProtocolError):
        flash(target, image("stm32f103", "v2"))
    board.do("power", on=True)
    flash(target, image("stm32f103", "v1"))
    assert running(target) == "v1"


# Protection


def protect(board: BoardProcess) -> None:
    """Readout Protect, AN3155 section 3.11, by hand; the chip resets itself."""
    board.press()
    port = open_port(board)
    try:
        port.set_parity("E")
        for request, answers in ((b"\x7f", 1), (b"\x82\x7d", 2)):
            port.write(request)
            assert port.read(answers, 2.0) == b"\x79" * answers
    finally:
        port.close()
    settle()


def test_protected_chip_is_refused_untouched_and_left_running(plug: Plug) -> None:
    board = plug()
    protect(board)
    before = board.flash()
    with pytest.raises(ProtectedError, match="unprotect = True"), on(board).in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert board.flash() == before and board.mode == "application"


def test_protected_chip_is_erased_and_written_when_the_inventory_says_so(plug: Plug) -> None:
    board = plug()
    protect(board)
    target = on(board, unprotect=True)
    flash(target, image("stm32f103", "v2"))
    assert running(target) == "v2"


def test_bootloader_that_hangs_before_it_says_which_chip_it_is_is_left_by_its_lines(plug: Plug) -> None:
    board = plug()
    target = on(board)
    board.do("fault", kind="hang", command="read", byte=0)
    with pytest.raises(NoAnswerError), target.in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert running(target) == "v1"
