"""Simulated AVR boards are backed up, written, verified and taken back through the bootloaders that Arduinos have."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from board_process import BoardProcess
from programmed_board import backup, described, flash, ignore, nobody, running, settle

from fleetflash.agent import board as board_module
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, VerifyError, WrongChipError
from fleetflash.agent.protocols.stk500v2 import Stk500v2
from fleetflash.agent.schema import Entry
from fleetflash.lab.image import build_image

KIB = 1024
SMALL, MEGA = "atmega328p", "atmega2560"
KINDS = [SMALL, MEGA]
SIGNATURES = {SMALL: "1e950f", MEGA: "1e9801"}
#: The flash below the bootloader, in bytes.
SIZES = {SMALL: 32 * KIB - 512, MEGA: 248 * KIB}

Plug = Callable[..., BoardProcess]


def image(kind: str, version: str, size: int = 4 * KIB + 20) -> bytes:
    return build_image(version, mcu=kind, size=size)


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the board's own has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    boards: list[BoardProcess] = []

    def start(kind: str = SMALL, *options: str, version: str = "v1") -> BoardProcess:
        boards.append(BoardProcess(kind, tmp_path / kind, *options, flash=image(kind, version)))
        settle()
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def on(board: BoardProcess, kind: str = SMALL, **changes: Any) -> BoardOnPort:
    fields: dict[str, Any] = {
        "chip": kind,
        "chip_ids": [SIGNATURES[kind]],
        "flash_size": SIZES[kind],
        "programmer": "stk500",
        **changes,
    }
    return described(board, image(kind, "v2"), **fields)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_flash_leaves_exactly_the_image_and_the_board_running_it(plug: Plug, kind: str) -> None:
    board, new = plug(kind), image(kind, "v2")
    boot_section = board.flash()[SIZES[kind] :]
    target = on(board, kind)
    flash(target, new)
    assert board.flash()[: len(new)] == new
    assert board.flash()[SIZES[kind] :] == boot_section
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", KINDS)
def test_backup_is_what_the_board_ran_and_takes_it_back(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind, flash_size=16 * KIB)
    before = board.flash()[: 16 * KIB]
    saved = backup(target)
    assert before.startswith(saved) and set(before[len(saved) :]) == {0xFF}
    flash(target, image(kind, "v2"))
    assert running(target) == "v2"
    flash(target, saved)
    assert running(target) == "v1" and board.flash()[: len(saved)] == saved


def test_addresses_above_64_ki_words_are_reached(plug: Plug) -> None:
    board = plug(MEGA)
    with on(board, MEGA).in_bootloader(nobody, "") as session:
        assert Stk500v2(session.port).read(SIZES[MEGA], 256) == board.flash()[SIZES[MEGA] :][:256] != b"\xff" * 256


@pytest.mark.parametrize("kind", KINDS)
def test_another_chip_is_left_as_it_was(plug: Plug, kind: str) -> None:
    board = plug(kind)
    before = board.flash()
    target = on(board, kind, chip_ids=["1e9307"])
    with pytest.raises(WrongChipError, match=SIGNATURES[kind]), target.in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert board.flash() == before and running(target) == "v1"


@pytest.mark.parametrize("kind", KINDS)
def test_bootloader_that_left_while_the_journal_was_written_is_fetched_again(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind)
    with target.in_bootloader(nobody, "") as session:
        deadline = time.monotonic() + 15
        while board.mode != "application":
            assert time.monotonic() < deadline, "its bootloader waits for ever"
            time.sleep(0.1)
        session.write(image(kind, "v2"), lambda phase: ignore)
        session.programmer.reset()
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", KINDS)
def test_person_resets_a_board_without_auto_reset(plug: Plug, kind: str) -> None:
    board = plug(kind, "--entry", "button")
    target = on(board, kind, entry=Entry("button", deadline=10.0))
    with target.in_bootloader(lambda gesture, seconds: board.press(), "") as session:
        session.write(image(kind, "v2"), lambda phase: ignore)
        session.programmer.reset()
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", KINDS)
def test_placement_controller_writes_through_a_port_on_which_only_the_identity_was_asked(plug: Plug, kind: str) -> None:
    board, new = plug(kind), image(kind, "v2")
    target = on(board, kind)
    with target.in_bootloader(nobody, "") as session:
        here = board_module.PROGRAMMERS["stk500"](session.port, session.programmer.target, lambda: session.port)  # type: ignore[attr-defined]
        here.probe()
        here.write(new, ignore)
        here.verify(new, ignore)
        session.programmer.reset()
    assert running(target) == "v2"


def test_image_that_would_overwrite_the_bootloader_is_refused(plug: Plug) -> None:
    board = plug()
    before = board.flash()
    with on(board).in_bootloader(nobody, "") as session, pytest.raises(ProtocolError, match="the flash 32256"):
        session.write(bytes(32 * KIB), lambda phase: ignore)
    assert board.flash() == before


# Faults


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_page_is_found_by_reading_it_back(plug: Plug, kind: str) -> None:
    board = plug(kind)
    board.do("fault", kind="corrupt", command="program", byte=1000)
    target = on(board, kind)
    with pytest.raises(VerifyError, match=r"verify at 0x3"):
        flash(target, image(kind, "v2"))
    flash(target, image(kind, "v1"))
    assert running(target) == "v1"


@pytest.mark.parametrize(
    ("kind", "command", "fault"),
    [
        *((SMALL, "program", fault) for fault in ("wrong_status", "drop", "drop_reply", "garbage", "hang")),
        *((SMALL, "address", "drop"), (SMALL, "read", "wrong_status"), (SMALL, "read", "garbage")),
        *((MEGA, "program", "wrong_status"), (MEGA, "program", "drop"), (MEGA, "read", "garbage")),
    ],
)
def test_every_fault_is_a_typed_error_and_the_next_attempt_succeeds(
    plug: Plug, kind: str, command: str, fault: str
) -> None:
    board = plug(kind)
    target = on(board, kind)
    fields = {"byte": 2000} if command in ("program", "read") else {}
    board.do("fault", kind=fault, command=command, **fields)
    with pytest.raises(ProtocolError, match=r"^/dev/"):
        flash(target, image(kind, "v2"))
    board.do("clear_faults")
    flash(target, image(kind, "v1"))
    assert running(target) == "v1"


@pytest.mark.parametrize("kind", KINDS)
def test_power_cut_in_the_middle_is_an_error_and_the_way_back_works(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind)
    board.do("fault", kind="power_cut", command="program", byte=3000)
    with pytest.raises(NoAnswerError):
        flash(target, image(kind, "v2"))
    board.do("power", on=True)
    flash(target, image(kind, "v1"))
    assert running(target) == "v1"
