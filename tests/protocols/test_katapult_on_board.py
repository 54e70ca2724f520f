"""Simulated boards behind Katapult are asked, followed over USB, backed up, written, verified and taken back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from board_process import BoardProcess, wait_for
from programmed_board import backup, described, flash, ignore, nobody, running, settle

from fleetflash.agent import board as board_module
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.protocols import katapult, katapult_programmer
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, VerifyError, WrongChipError
from fleetflash.agent.schema import Entry
from fleetflash.lab.image import build_image

KIB = 1024
UID = "e66038b71353a32f"
UART, USB, RP2040 = "katapult-f103", "katapult-f446", "katapult-rp2040"
KINDS = [UART, USB, RP2040]
BASES = {UART: 0x0800_0000, USB: 0x0800_0000, RP2040: 0x1000_0000}
OFFSETS = {UART: 8 * KIB, USB: 32 * KIB, RP2040: 16 * KIB}
MCUS = {UART: "stm32f103xe", USB: "stm32f446xx", RP2040: "rp2040"}

Plug = Callable[..., BoardProcess]


def image(kind: str, version: str, size: int = 4 * KIB + 20) -> bytes:
    return build_image(version, mcu=MCUS[kind], base=BASES[kind] + OFFSETS[kind], size=size)


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the board's own has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    boards: list[BoardProcess] = []

    def start(kind: str, *options: str, version: str = "v1") -> BoardProcess:
        content = b"\xff" * OFFSETS[kind] + (image(kind, version) if version else b"")
        boards.append(BoardProcess(kind, tmp_path / kind, "--uid", UID, *options, flash=content))
        settle()
        if version and not options:
            wait_for(lambda: boards[-1].mode == "application")
        return boards[-1]

    yield start
    for board in boards:
        board.stop()


def on(board: BoardProcess, kind: str, **changes: Any) -> BoardOnPort:
    fields: dict[str, Any] = {
        "chip": kind,
        "chip_ids": [MCUS[kind]],
        "flash_size": 16 * KIB,
        "programmer": "katapult",
        "entry": Entry("request"),
        "flash_base": BASES[kind],
        "flash_offset": OFFSETS[kind],
        **changes,
    }
    return described(board, image(kind, "v2"), **fields)


def application(board: BoardProcess, kind: str, size: int) -> bytes:
    return board.flash()[OFFSETS[kind] :][:size]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_flash_leaves_exactly_the_image_and_the_board_running_it(plug: Plug, kind: str) -> None:
    board, new = plug(kind), image(kind, "v2")
    own = board.flash()[: OFFSETS[kind]]
    target = on(board, kind)
    flash(target, new)
    assert application(board, kind, len(new)) == new
    assert board.flash()[: OFFSETS[kind]] == own
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", [UART, USB])
def test_backup_is_what_the_board_ran_and_takes_it_back(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind)
    before = application(board, kind, 16 * KIB)
    saved = backup(target)
    assert before.startswith(saved) and set(before[len(saved) :]) == {0xFF}
    flash(target, image(kind, "v2"))
    assert running(target) == "v2"
    flash(target, saved)
    assert running(target) == "v1" and application(board, kind, len(saved)) == saved


@pytest.mark.parametrize("kind", [UART, USB])
def test_chip_with_less_flash_than_the_inventory_says_is_backed_up_whole_and_goes_on(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind, flash_size=2 * 1024 * KIB)
    assert application(board, kind, 16 * KIB).startswith(backup(target))
    assert running(target) == "v1"


@pytest.mark.parametrize("kind", KINDS)
def test_another_chip_is_left_running_as_it_was(plug: Plug, kind: str) -> None:
    board = plug(kind)
    before = board.flash()
    target = on(board, kind, chip_ids=["stm32g0b1xx"])
    with pytest.raises(WrongChipError, match=f"found chip {MCUS[kind]}"), target.in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert board.flash() == before and running(target) == "v1"


def test_katapult_that_starts_applications_elsewhere_is_left_as_it_was(plug: Plug) -> None:
    board = plug(UART)
    before = board.flash()
    target = on(board, UART, flash_offset=0x7000)
    with pytest.raises(WrongChipError, match=r"flash_offset = 0x2000"), target.in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert board.flash() == before and running(target) == "v1"


@pytest.mark.parametrize("kind", [UART, USB])
def test_board_that_waits_in_its_bootloader_for_a_half_written_application_is_written(plug: Plug, kind: str) -> None:
    board = plug(kind, version="")
    target = on(board, kind)
    flash(target, image(kind, "v2"))
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", [USB, RP2040])
def test_board_on_usb_that_does_not_hear_the_string_is_touched(
    plug: Plug, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1200 bit/s while DTR is released, as Klipper's USB code has it (``src/generic/usb_cdc.c``, check_reboot)."""
    monkeypatch.setattr(katapult, "REQUEST", b"~ nobody knows this ~")
    monkeypatch.setattr(katapult_programmer, "REQUESTS", 1)
    board = plug(kind)
    target = on(board, kind)
    flash(target, image(kind, "v2"))
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", [UART, USB])
def test_person_enters_the_bootloader_when_asked(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind, entry=Entry("button", deadline=20.0))
    with target.in_bootloader(lambda gesture, seconds: board.press(), "") as session:
        session.write(image(kind, "v2"), lambda phase: ignore)
        session.programmer.reset()
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", [UART, USB])
def test_board_that_is_refused_is_left_with_its_application_running(plug: Plug, kind: str) -> None:
    board = plug(kind, "--bootloader")
    wait_for(lambda: board.mode == "bootloader" and board.tty.exists())
    target = on(board, kind)
    target.leave_bootloader()
    assert running(target) == "v1"
    target.leave_bootloader()
    assert running(target) == "v1"


def test_placement_controller_writes_through_a_port_on_which_only_the_identity_was_asked(plug: Plug) -> None:
    board, new = plug(USB), image(USB, "v2")
    target = on(board, USB)
    with target.in_bootloader(nobody, "") as session:
        here = board_module.PROGRAMMERS["katapult"](session.port, session.programmer.target, lambda: session.port)  # type: ignore[attr-defined]
        here.probe()
        here.write(new, ignore)
        here.verify(new, ignore)
        session.programmer.reset()
    assert running(target) == "v2"


# Faults


def test_corrupted_block_is_found_by_reading_it_back_or_by_katapult_itself(plug: Plug) -> None:
    board = plug(UART)
    target = on(board, UART)
    board.do("fault", kind="corrupt", command="program", byte=OFFSETS[UART] + 1000)
    with pytest.raises((VerifyError, ProtocolError), match=r"at 0x080023"):
        flash(target, image(UART, "v2"))
    flash(target, image(UART, "v1"))
    assert running(target) == "v1"


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        *(("identify", "drop"), ("flush", "drop_reply"), ("read", "garbage")),
        *(("program", "drop"), ("program", "drop_reply"), ("program", "garbage")),
    ],
)
def test_answers_that_are_lost_or_garbled_once_cost_a_repetition_and_nothing_else(
    plug: Plug, command: str, fault: str
) -> None:
    board = plug(UART)
    target = on(board, UART)
    fields = {"byte": OFFSETS[UART] + 2000} if command in ("program", "read") else {}
    board.do("fault", kind=fault, command=command, **fields)
    flash(target, image(UART, "v2"))
    assert running(target) == "v2"


@pytest.mark.parametrize("kind", [UART, USB])
def test_bootloader_that_hangs_is_a_typed_error_and_a_power_cycle_helps(plug: Plug, kind: str) -> None:
    board = plug(kind)
    target = on(board, kind)
    board.do("fault", kind="hang", command="read")
    with pytest.raises(NoAnswerError, match=r"read block at .*: no answer"):
        flash(target, image(kind, "v2"))
    board.do("power", on=False)
    board.do("power", on=True)
    flash(target, image(kind, "v1"))
    assert running(target) == "v1"
