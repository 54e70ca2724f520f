"""Backups come whole from a host to the controller, and nothing but backups does."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import backup_transfer, disk, wire
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.schema import Backup, Firmware
from fleetflash.agent.store import Store
from fleetflash.link.backups import BackupAbsentError, BackupClient
from fleetflash.link.errors import AgentError
from tests.unit.test_backups import board

RUNNING = Firmware("klippy", "v1")
LARGE = bytes(range(256)) * 1000


class Pipe:
    """A ``link.transaction.Session`` on pipes, with the agent's end in a thread."""

    def __init__(self, store: Store) -> None:
        agent_in, self._write = os.pipe()
        self._read, agent_out = os.pipe()
        self._frames = open(self._read, "rb")
        self._thread = threading.Thread(target=self._serve, args=(store, agent_in, agent_out), daemon=True)
        self._thread.start()

    def _serve(self, store: Store, agent_in: int, agent_out: int) -> None:
        with open(agent_in, "rb", buffering=0) as stdin, open(agent_out, "wb") as stdout:
            backup_transfer.serve(store, stdin, stdout)

    def send(self, message: dict[str, Any]) -> None:
        os.write(self._write, wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        os.write(self._write, wire.encode(wire.DATA, data))

    def receive(self, timeout: float | None) -> dict[str, Any] | bytes:
        frame = wire.read_frame(self._frames)
        assert frame is not None, "the agent has ended"
        return frame[1] if frame[0] == wire.DATA else wire.decode_json(frame[1])

    def close(self) -> None:
        os.close(self._write)
        self._thread.join(5)
        assert not self._thread.is_alive(), "the agent stays when the controller is gone"
        self._frames.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def pipe(store: Store) -> Iterator[Pipe]:
    opened = Pipe(store)
    yield opened
    opened.close()


def keep(store: Store, data: bytes, name: str = "toolhead") -> Backup:
    Backups(store).add(board(name=name), data, RUNNING, "2a", Occasion("t-1", "why", 1.0))
    return Backups(store).of(name)[0]


def test_records_and_bytes_of_the_boards_that_are_asked_for_come_whole(store: Store, pipe: Pipe) -> None:
    older, large = keep(store, b"small"), keep(store, LARGE)
    keep(store, b"another's", "bed")
    client = BackupClient(pipe, "printer")
    assert client.records(["toolhead", "nobody"]) == [large, older]
    pipe.send_data(b"the last words of a lent port")
    assert client.image(large) == LARGE and client.image(older) == b"small"


def test_nothing_else_is_given_away(store: Store, pipe: Pipe) -> None:
    """Images hold credentials of gateways; who asks here is root-equivalent, and gets what it has asked for."""
    other = keep(store, b"another's", "bed")
    client = BackupClient(pipe, "printer")
    assert client.records(["toolhead"]) == []
    with pytest.raises(BackupAbsentError, match="is no backup of a board that was asked for"):
        client.image(other)


@pytest.mark.parametrize("damage", ["gone", "rotten"])
def test_bytes_that_are_not_there_are_said_to_be(store: Store, pipe: Pipe, damage: str) -> None:
    kept = keep(store, b"old firmware")
    path = store.image(kept.image.sha256)
    path.unlink() if damage == "gone" else disk.write_file(path, b"rot")
    client = BackupClient(pipe, "printer")
    client.records(["toolhead"])
    with pytest.raises(BackupAbsentError, match=r"printer: .*expected sha256"):
        client.image(kept)
    assert client.records(["toolhead"]) == [kept]


class Scripted:
    """An agent that says what it is told to."""

    def __init__(self, *answers: dict[str, Any] | bytes) -> None:
        self.answers = list(answers)

    def send(self, message: dict[str, Any]) -> None: ...

    def send_data(self, data: bytes) -> None: ...

    def receive(self, timeout: float | None) -> dict[str, Any] | bytes:
        return self.answers.pop(0)


def test_bytes_that_came_torn_are_no_backup(store: Store) -> None:
    kept = keep(store, b"old firmware")
    scripted = Scripted({"type": "image", "size": 12}, b"old ", b"firmwarf")
    with pytest.raises(BackupAbsentError, match="has sha256"):
        BackupClient(scripted, "printer").image(kept)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "outcome"},
        {"type": "backups"},
        {"type": "backups", "backups": [{"board": 1}]},
        {"type": "backups", "backups": 5},
    ],
)
def test_answer_that_makes_no_sense_is_one_line(answer: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match=r"^printer: "):
        BackupClient(Scripted(answer), "printer").records(["toolhead"])


def test_agent_ends_at_a_torn_frame(store: Store) -> None:
    with pytest.raises(wire.WireError):
        backup_transfer.serve(store, io.BytesIO(b"J\0"), io.BytesIO())


def test_board_names_lead_nowhere_else(store: Store, tmp_path: Path) -> None:
    disk.write_json(tmp_path / "elsewhere.json", [{"path": "/etc/shadow"}])
    out = io.BytesIO()
    backup_transfer.serve(store, io.BytesIO(wire.encode_json({"type": "backups", "boards": ["../elsewhere"]})), out)
    frame = wire.read_frame(io.BytesIO(out.getvalue()))
    assert frame is not None and wire.decode_json(frame[1])["backups"] == []
