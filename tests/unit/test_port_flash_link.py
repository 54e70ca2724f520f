"""``fleetflash port flash`` over a link that is lost on the way: what it says of the board."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.schema import Entry
from fleetflash.cli.handwork import HandworkError, Job
from fleetflash.firmware.chips import chip
from fleetflash.link.errors import PortLostError, UnreachableError

IMAGE: Any = SimpleNamespace(data=b"new", version="v2", dictionary=SimpleNamespace(version="v2"))


class Board:
    """A programmer whose link is lost as it does ``lost_at``."""

    capabilities = Capabilities(read_back=True, entries=("lines",), pace=Pace(115200, 128, 20, 1.0))
    lost_at = ""

    def __init__(self, port: Any, *context: Any) -> None:
        self.port = port

    def __getattr__(self, step: str) -> Callable[..., Any]:
        def act(*arguments: Any) -> Any:
            if step == self.lost_at:
                raise PortLostError("printer: the SSH connection was lost")
            return Found("1e950f", "") if step == "probe" else b"old"

        return act


class Bench:
    name = "fleetflash://printer/dev/ttyUSB0"

    def open(self, baudrate: int) -> object:
        return object()

    def reopen(self, baudrate: int) -> object:
        raise UnreachableError("printer: no SSH connection")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setitem(PROGRAMMERS, "stk500", Board)
    bench: Any = Bench()
    return Job(bench, "stk500", Entry("lines"), ask=lambda *_: None, report=lambda *_: None, chip=chip("atmega328p"))


@pytest.mark.parametrize("step", ["write", "verify", "reset"])
def test_a_board_that_was_being_written_waits_in_its_bootloader(
    job: Job, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Board, "lost_at", step)
    with pytest.raises(HandworkError, match=r"connection was lost; the board waits in its bootloader; .*run this comm"):
        job.flash(IMAGE, None, IMAGE)


def test_its_backup_is_the_way_back_of_the_next_try(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the board holds by then is no backup, and the file exists already."""
    monkeypatch.setattr(Board, "lost_at", "write")
    backup = tmp_path / "old.bin"
    with pytest.raises(HandworkError, match=f"run this command again with --way-back {backup} instead of --backup"):
        job.flash(IMAGE, backup, None)
    assert backup.read_bytes() == b"old"


def test_nothing_was_written_before_the_bootloader_was_there(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "lost_at", "enter")
    with pytest.raises(PortLostError):
        job.flash(IMAGE, None, IMAGE)


def test_a_board_that_was_started_is_not_said_to_wait(job: Job) -> None:
    with pytest.raises(HandworkError, match="no SSH connection; the board is written, verified and started"):
        job.flash(IMAGE, None, IMAGE)
