import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from pseudo_terminal import PseudoTerminal

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.ports import SerialPort, holders
from fleetflash.link import port as port_module
from fleetflash.link.errors import PortLostError, StallError, UnreachableError
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession

pytestmark = needs_sshd


@pytest.fixture
def transport(sshd: LoopbackSshd) -> Iterator[paramiko.Transport]:
    transport = sshd.transport()
    yield transport
    transport.close()


@pytest.fixture(params=[False, True], ids=["direct", "background"])
def port(
    request: pytest.FixtureRequest, transport: paramiko.Transport, terminal: PseudoTerminal
) -> Iterator[RemotePort]:
    with AgentSession(transport, "printer", ["serve"]) as session:
        port = RemotePort.open(session, "printer", terminal.path, 250000, background=request.param)
        yield port
        port.close()
    assert terminal.master < 0 or not holders(terminal.path)


class Channel:
    """A frame channel without an agent: what is sent is kept, what is received is given."""

    def __init__(self, *frames: dict[str, Any] | bytes) -> None:
        self.frames = list(frames)
        self.sent: list[dict[str, Any] | bytes] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def send_data(self, data: bytes) -> None:
        self.sent.append(data)

    def receive(self, timeout: float) -> dict[str, Any] | bytes:
        if not self.frames:
            raise StallError("nothing")
        return self.frames.pop(0)


def test_it_is_a_port() -> None:
    port: Port = RemotePort(Channel(), "printer:/dev/ttyUSB0")
    assert port.name == "printer:/dev/ttyUSB0"


def test_data_passes_both_ways(port: RemotePort, terminal: PseudoTerminal) -> None:
    terminal.echo()
    sent = os.urandom(600_000)
    received = b""
    for start in range(0, len(sent), 50_000):
        port.write(sent[start : start + 50_000])
        received += port.read(50_000, 10)
    assert received == sent
    assert terminal.speed() == 250000


def test_read_returns_what_came_at_its_deadline(port: RemotePort, terminal: PseudoTerminal) -> None:
    terminal.write(b"abc")
    started = time.monotonic()
    assert port.read(10, 0.3) == b"abc"
    assert 0.29 < time.monotonic() - started < 10
    assert port.read(1, 0) == b""


def test_speed_changes_after_what_was_written_before(port: RemotePort, terminal: PseudoTerminal) -> None:
    port.write(b"slow")
    port.set_baudrate(1_000_000)
    assert terminal.speed() == 1_000_000
    assert terminal.read(4) == b"slow"
    with pytest.raises(PortError, match=rf"printer: {terminal.path}: 0 bit/s is not a speed"):
        port.set_baudrate(0)


def test_parity_is_a_command_like_the_speed(port: RemotePort) -> None:
    port.set_parity("E")
    with pytest.raises(PortError, match=r"printer: .*parity 'M' is none of N, E, O"):
        port.set_parity("M")
    channel = Channel({"type": "done", "id": 1})
    RemotePort(channel, "printer:/dev/ttyUSB0").set_parity("E")
    assert channel.sent[-1] == {"type": "parity", "value": "E", "id": 1}


def test_discard_input_drops_what_is_still_on_its_way(port: RemotePort, terminal: PseudoTerminal) -> None:
    terminal.write(b"old" * 100)
    port.read(1, 2)
    port.discard_input()
    port.drain()
    terminal.write(b"new")
    assert port.read(3, 2) == b"new"


def test_what_was_sent_before_discard_input_took_effect_is_dropped() -> None:
    channel = Channel()
    port = RemotePort(channel, "printer:/dev/ttyUSB0")
    port.discard_input()
    channel.frames = [b"was on its way", {"type": "done", "id": 1}, b"new"]
    assert port.read(3, 1) == b"new"


def test_play_is_timed_beside_the_port(port: RemotePort) -> None:
    started = time.monotonic()
    port.play([(False, True, 0.1), (True, False, 0.05), (False, None, 0.0)])
    assert 0.15 <= time.monotonic() - started < 10


def test_a_board_that_floods_a_slow_reader_is_held_back(port: RemotePort, terminal: PseudoTerminal) -> None:
    """Nothing is lost and nothing is kept beyond the window: the pseudo-terminal itself fills up."""
    flood = os.urandom(1_000_000)
    writer = threading.Thread(target=terminal.write, args=(flood,), daemon=True)
    writer.start()
    time.sleep(1.0)
    assert writer.is_alive()
    assert len(port._buffer) <= port_module.WINDOW
    received = b""
    while len(received) < len(flood):
        piece = port.read(100_000, 5)
        assert piece
        received += piece
    assert received == flood


def test_unplugging_is_named_with_its_host(port: RemotePort, terminal: PseudoTerminal) -> None:
    terminal.write(b"last words")
    assert port.read(10, 2) == b"last words"
    terminal.unplug()
    with pytest.raises(PortError, match=f"printer: {terminal.path}: unplugged"):
        port.read(1, 5)


def test_an_open_that_fails_says_why(transport: paramiko.Transport, terminal: PseudoTerminal) -> None:
    held = SerialPort.open(terminal.path)
    with AgentSession(transport, "printer", ["serve"]) as session, pytest.raises(PortError) as caught:
        RemotePort.open(session, "printer", terminal.path)
    assert str(caught.value).startswith(f"printer: {terminal.path}: in use by pid {os.getpid()} (")
    held.close()


def test_a_lost_connection_is_told_from_a_lost_board(sshd: LoopbackSshd, terminal: PseudoTerminal) -> None:
    transport = sshd.transport()
    session = AgentSession(transport, "printer", ["serve"])
    port = RemotePort.open(session, "printer", terminal.path)
    transport.sock.close()
    with pytest.raises(PortLostError, match="printer: the SSH connection was lost"):
        port.read(1, 10)
    port.close()
    session.close()
    transport.close()


def test_nothing_is_sent_without_credit() -> None:
    channel = Channel({"type": "credit", "bytes": 3}, {"type": "credit", "bytes": 100})
    port = RemotePort(channel, "printer:/dev/ttyUSB0")
    port.write(b"abcdef")
    assert [frame for frame in channel.sent if isinstance(frame, bytes)] == [b"abc", b"def"]


def test_a_port_that_takes_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "WRITE_SECONDS", 0.1)
    with pytest.raises(PortError, match="printer:/dev/ttyUSB0: takes no data"):
        RemotePort(Channel(), "printer:/dev/ttyUSB0").write(b"x")


def test_a_silent_agent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "COMMAND_SECONDS", 0.1)
    with pytest.raises(PortError, match="baudrate got no answer"):
        RemotePort(Channel(), "printer:/dev/ttyUSB0").set_baudrate(9600)


@pytest.mark.parametrize("word", ["event", "outcome", "refused"])
def test_a_host_that_goes_on_has_taken_back_the_port_that_it_lent(word: str) -> None:
    """Its agent has died, say: the session lives, and nothing will ever come from the board again."""
    port = RemotePort(Channel({"type": word}), "printer:/dev/ttyUSB0")
    with pytest.raises(PortLostError, match="taken back"):
        port.read(1, None)


def test_the_report_goes_along_with_close_and_nothing_follows() -> None:
    """On a lent port, what follows would be read by the transaction's follower."""
    channel = Channel(bytes(port_module.WINDOW), {"type": "done", "id": 2})
    port = RemotePort(channel, "printer:/dev/ttyUSB0", heartbeat=0.02)
    time.sleep(0.1)
    assert {"type": "ping"} in channel.sent
    # What is dropped while it closes would give credit back.
    port.discard_input()
    port.close(ok=False, error="verify failed")
    assert channel.sent[-1] == {"type": "close", "id": 2, "ok": False, "error": "verify failed"}
    count = len(channel.sent)
    time.sleep(0.1)
    port.close()
    assert len(channel.sent) == count
    with pytest.raises(PortError, match="is closed"):
        port.write(b"x")


def test_what_was_written_last_leaves_before_the_port_is_closed(port: RemotePort, terminal: PseudoTerminal) -> None:
    data = os.urandom(100_000)
    port.write(data)
    reader = threading.Timer(0.3, lambda: received.append(terminal.read(len(data))))
    received: list[bytes] = []
    reader.start()
    port.close()
    reader.join()
    assert received == [data]


def test_closing_over_a_lost_link_is_quiet() -> None:
    class Lost(Channel):
        def receive(self, timeout: float) -> dict[str, Any] | bytes:
            raise UnreachableError("printer: gone")

    RemotePort(Lost(), "printer:/dev/ttyUSB0").close()
