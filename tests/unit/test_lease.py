"""A port that is lent to the controller comes back, however the controller ends."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import lease, wire
from fleetflash.agent.events import EventReader, EventWriter
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.schema import Image
from fleetflash.link.errors import UnreachableError
from fleetflash.link.port import RemotePort

IMAGE = Image("artifact", "0" * 64, 4, "v2")


class Follower:
    """The frames of the unix socket, as the controller gets them through the host's follower."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb", buffering=0)

    def send(self, message: dict[str, Any]) -> None:
        self._send(wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        self._send(wire.encode(wire.DATA, data))

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise UnreachableError(f"printer: {error}") from error

    def receive(self, timeout: float) -> dict[str, Any] | bytes:
        self.socket.settimeout(min(timeout, 10.0))
        frame = wire.read_frame(self.stream)  # type: ignore[arg-type]
        assert frame is not None
        return frame[1] if frame[0] == wire.DATA else wire.decode_json(frame[1])

    def drop(self) -> None:
        self.stream.close()
        self.socket.close()


class Host:
    """An agent that lends its port in a thread. ``error``: what came of it, once it has ended."""

    def __init__(self, directory: Path, terminal: PseudoTerminal) -> None:
        self.events = directory / "events"
        self.port = SerialPort.open(terminal.path)
        self.error = ""
        self.thread = threading.Thread(target=self._lend)
        self.thread.start()

    def _lend(self) -> None:
        session: Any = SimpleNamespace(port=self.port, board=SimpleNamespace(name="bmcu"))
        try:
            lease.lend_port(session, "t1", IMAGE, EventWriter(self.events))
        except lease.LeaseError as error:
            self.error = str(error)

    def offer(self) -> dict[str, Any]:
        reader, deadline = EventReader(self.events), time.monotonic() + 10
        while time.monotonic() < deadline:
            for event in reader.read():
                return event
            time.sleep(0.01)
        raise AssertionError("no port was offered")

    def ended(self) -> str:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal() as terminal:
        yield terminal


@pytest.fixture
def host(tmp_path: Path, terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(lease, "RUN", tmp_path)
    host = Host(tmp_path, terminal)
    yield host
    host.thread.join(10)
    host.port.close()


def test_the_controller_has_the_port_and_its_report_ends_the_loan(host: Host, terminal: PseudoTerminal) -> None:
    offer = host.offer()
    assert (offer["step"], offer["board"], offer["sha256"]) == ("port-offered", "bmcu", IMAGE.sha256)
    follower = Follower(offer["socket"])
    port = RemotePort(follower, "printer:/dev/ttyUSB0")
    port.write(b"written")
    assert terminal.read(7) == b"written"
    assert not Path(offer["socket"]).exists()
    port.close(ok=True)
    assert host.ended() == ""
    follower.drop()


def test_a_failure_of_the_controller_is_told_with_its_reason(host: Host) -> None:
    follower = Follower(host.offer()["socket"])
    RemotePort(follower, "printer:/dev/ttyUSB0").close(ok=False, error="verify at 0x100 failed")
    assert host.ended() == "bmcu: the controller could not write the board: verify at 0x100 failed"
    follower.drop()


def test_a_dropped_link_ends_the_loan_in_the_middle_of_a_write(host: Host) -> None:
    follower = Follower(host.offer()["socket"])
    RemotePort(follower, "printer:/dev/ttyUSB0").write(bytes(100_000))
    follower.drop()
    assert "session was lost" in host.ended() and "waited in its bootloader" in host.error
    # Its agent goes on with the port, to write the way back.
    assert host.port.fileno() >= 0


def test_a_silent_controller_ends_the_loan(tmp_path: Path, terminal: PseudoTerminal, monkeypatch: Any) -> None:
    """A link that loses everything closes nothing."""
    monkeypatch.setattr(lease, "RUN", tmp_path)
    monkeypatch.setattr(lease, "SILENCE", 0.3)
    host = Host(tmp_path, terminal)
    follower = Follower(host.offer()["socket"])
    port = RemotePort(follower, "printer:/dev/ttyUSB0", heartbeat=0.1)
    time.sleep(0.8)
    assert host.thread.is_alive(), "its heartbeat was not heard"
    port._closing.set()
    assert "session was lost" in host.ended()
    follower.drop()
    host.port.close()


def test_a_port_that_nobody_takes_is_kept(tmp_path: Path, terminal: PseudoTerminal, monkeypatch: Any) -> None:
    monkeypatch.setattr(lease, "RUN", tmp_path)
    monkeypatch.setattr(lease, "ACCEPT_SECONDS", 0.1)
    host = Host(tmp_path, terminal)
    assert "no controller took the port" in host.ended()
    assert not Path(host.offer()["socket"]).exists()
    host.port.close()
