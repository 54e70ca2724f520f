"""Whatever comes over a forwarded port's channel, in whatever pieces: a typed error at worst, and the port is free."""

import json
import socket
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import serve, wire
from fleetflash.agent.port import PortError
from fleetflash.agent.ports import SerialPort
from fleetflash.link.port import RemotePort

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.one_of(
    st.integers(-5, 300), st.integers(), st.just(10**400), st.floats(), st.sampled_from([float("inf"), float("nan")])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
COMMANDS = (
    "baudrate",
    "parity",
    "lines",
    "play",
    "break",
    "drain",
    "discard_input",
    "inputs",
    "credit",
    "ping",
    "open",
)
FIELDS = ("id", "value", "dtr", "rts", "at", "steps", "seconds", "on", "bytes")
steps = st.lists(st.tuples(st.booleans(), st.none(), numbers), max_size=3)
commands = st.builds(
    lambda kind, fields, play: {**fields, "type": kind, **({"steps": play} if kind == "play" else {})},
    st.sampled_from([*COMMANDS, "reboot"]),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=4),
    steps,
)
frames = st.one_of(
    commands.map(wire.encode_json), st.binary(max_size=40).map(lambda data: wire.encode(wire.DATA, data))
)


class Served:
    """A port that is served in a thread; ``crash``: what it should never raise."""

    def __init__(self, terminal: PseudoTerminal) -> None:
        self.port = SerialPort.open(terminal.path)
        self.here, self.there = socket.socketpair()
        self.crash: BaseException | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            serve.serve_port(self.port, self.there.fileno(), self.there.fileno())
        except PortError:
            pass
        except BaseException as error:
            self.crash = error
        self.there.close()

    def take(self, data: bytes) -> None:
        """Send all of it, hear what is answered, and hang up."""
        try:
            self.here.sendall(data)
        except OSError:
            pass  # it has ended the conversation already
        self.here.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.port.close()
        assert self.crash is None, repr(self.crash)


@fuzz
@given(st.binary(max_size=200))
def test_garbage_ends_the_service_and_nothing_else(terminal: PseudoTerminal, data: bytes) -> None:
    Served(terminal).take(data)


@fuzz
@given(st.lists(frames, max_size=6))
def test_commands_with_any_values_are_answered_or_refused(terminal: PseudoTerminal, sent: list[bytes]) -> None:
    Served(terminal).take(b"".join(sent))


@pytest.mark.parametrize("payload", [b"[" * 200_000, b'{"type":' + b"[" * 200_000, b"9" * 200_000, b"\xff", b"[]"])
def test_json_that_no_message_is_made_of_is_refused(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_json(payload)


@fuzz
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_a_stream_in_any_pieces_is_the_same_stream(terminal: PseudoTerminal, sent: list[bytes], size: int) -> None:
    served = Served(terminal)
    stream = b"".join(wire.encode(wire.DATA, data) for data in sent) + wire.encode_json({"type": "drain", "id": 1})
    for start in range(0, len(stream), size):
        served.here.sendall(stream[start : start + size])
    expected = b"".join(sent)
    assert terminal.read(len(expected)) == expected
    served.take(b"")


class Channel:
    """What an agent says to a controller."""

    def __init__(self, said: list[Any]) -> None:
        self.said = list(said)

    def send(self, message: dict[str, Any]) -> None: ...

    def send_data(self, data: bytes) -> None: ...

    def receive(self, timeout: float) -> Any:
        if not self.said:
            raise TimeoutError
        return self.said.pop(0)


answers = st.builds(
    lambda kind, fields: json.loads(json.dumps({**fields, "type": kind})),
    st.sampled_from(["credit", "done", "error", "news"]),
    st.dictionaries(st.sampled_from(["id", "bytes", "message", "bits"]), values, max_size=3),
)


@fuzz
@given(st.lists(st.one_of(answers, st.binary(max_size=20)), max_size=6))
def test_an_agent_that_makes_no_sense_is_a_port_error(said: list[Any]) -> None:
    port = RemotePort(Channel(said), "printer:/dev/ttyUSB0", heartbeat=1000)
    try:
        while port.read(10, 0.0):
            pass
        port.close()
    except PortError:
        pass
    finally:
        port._closing.set()
