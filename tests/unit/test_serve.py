import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import serve, wire
from fleetflash.agent.port import PortError
from fleetflash.agent.ports import SerialPort, holders


class Controller:
    """The other end of the frames, and the thread that serves."""

    def __init__(self, terminal: PseudoTerminal, silence: float = 60.0) -> None:
        self.terminal = terminal
        self.port = SerialPort.open(terminal.path)
        self.here, self.there = socket.socketpair()
        self.stream = self.here.makefile("rb", buffering=0)
        self.here.settimeout(10)
        self.result: dict[str, Any] | PortError | None = None
        self.thread = threading.Thread(target=self._serve, args=(silence,))
        self.thread.start()
        assert self.receive() == {"type": "credit", "bytes": serve.WINDOW}

    def _serve(self, silence: float) -> None:
        try:
            self.result = serve.serve_port(self.port, self.there.fileno(), self.there.fileno(), silence)
        except PortError as error:
            self.result = error
        self.there.close()

    def send(self, **message: Any) -> None:
        self.here.sendall(wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        self.here.sendall(wire.encode(wire.DATA, data))

    def receive(self) -> Any:
        frame = wire.read_frame(self.stream)  # type: ignore[arg-type]
        if frame is None:
            return None
        return frame[1] if frame[0] == wire.DATA else wire.decode_json(frame[1])

    def receive_data(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            frame = self.receive()
            assert isinstance(frame, bytes)
            data += frame
        return data

    def end(self) -> None:
        self.here.close()
        self.stream.close()
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.port.close()


@pytest.fixture
def controller(terminal: PseudoTerminal) -> Iterator[Controller]:
    controller = Controller(terminal)
    yield controller
    controller.end()


def test_data_passes_both_ways(controller: Controller) -> None:
    controller.send(type="credit", bytes=1000)
    controller.send_data(b"\x00to the board\xff")
    assert controller.terminal.read(14) == b"\x00to the board\xff"
    controller.terminal.write(b"\x00from the board\xff")
    assert controller.receive_data(16) == b"\x00from the board\xff"


def test_nothing_is_sent_without_credit(controller: Controller) -> None:
    controller.terminal.write(bytes(range(100)))
    controller.send(type="inputs", id=1)
    assert controller.receive()["id"] == 1
    controller.send(type="credit", bytes=60)
    assert controller.receive_data(60) == bytes(range(60))
    controller.send(type="inputs", id=2)
    assert controller.receive()["id"] == 2
    controller.send(type="credit", bytes=60)
    assert controller.receive_data(40) == bytes(range(60, 100))


def test_credit_comes_back_as_the_board_takes_data(controller: Controller) -> None:
    for _ in range(serve.WINDOW // 4 // 4096):
        controller.send_data(bytes(4096))
    assert len(controller.terminal.read(serve.WINDOW // 4)) == serve.WINDOW // 4
    assert controller.receive() == {"type": "credit", "bytes": serve.WINDOW // 4}


def test_more_data_than_allowed_ends_the_conversation(controller: Controller) -> None:
    """The board takes nothing, so all of it would have to be kept."""
    try:
        for _ in range(serve.WINDOW // 4096 + 40):
            controller.send_data(bytes(4096))
    except OSError:
        pass
    message = controller.receive()
    assert message["type"] == "error" and f"{serve.WINDOW} were allowed" in message["message"]
    controller.thread.join(5)
    assert controller.result == {}


def test_commands_take_effect_in_the_order_of_the_data(controller: Controller) -> None:
    for baudrate in (250000, 1000000, 115200):
        controller.send_data(b"x" * 1000)
        controller.send(type="baudrate", value=baudrate, id=baudrate)
        assert controller.receive() == {"type": "done", "id": baudrate}
        assert controller.terminal.speed() == baudrate
        assert controller.terminal.read(1000) == b"x" * 1000


def test_parity_is_set_in_the_order_of_the_stream(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal forgets parity at once, so what reaches the port is looked at."""
    seen: list[str] = []
    monkeypatch.setattr(controller.port, "set_parity", lambda parity: seen.append(f"{parity} {len(terminal_input())}"))

    def terminal_input() -> bytes:
        return controller.terminal.read(4)

    controller.send_data(b"8N1!")
    controller.send(type="parity", value="E", id=1)
    assert controller.receive() == {"type": "done", "id": 1}
    assert seen == ["E 4"]


def test_parity_that_no_port_knows_is_refused(controller: Controller) -> None:
    controller.send(type="parity", value="M", id=1)
    answer = controller.receive()
    assert (answer["type"], answer["id"]) == ("error", 1) and "none of N, E, O" in answer["message"]


def test_a_command_waits_for_what_was_written_before(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    left = threading.Event()

    def drain(port: SerialPort) -> None:
        log.append("draining")
        left.wait(5)
        log.append("drained")

    monkeypatch.setattr(SerialPort, "drain", drain)
    monkeypatch.setattr(SerialPort, "set_lines", lambda port, dtr, rts: log.append(f"lines {dtr} {rts}"))
    controller.send(type="credit", bytes=100)
    controller.send_data(b"x")
    controller.send(type="lines", dtr=True, rts=None, id=1)
    assert controller.terminal.read(1) == b"x"
    # What the board says meanwhile is not held up.
    controller.terminal.write(b"still here")
    assert controller.receive_data(10) == b"still here"
    left.set()
    assert controller.receive() == {"type": "done", "id": 1}
    assert log == ["draining", "drained", "lines True None"]


def test_play_keeps_its_times_while_data_flows(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[tuple[float, Any, Any]] = []
    monkeypatch.setattr(SerialPort, "set_lines", lambda _, dtr, rts: changes.append((time.monotonic(), dtr, rts)))
    controller.send(type="credit", bytes=10000)
    controller.send(type="play", steps=[[False, True, 0.1], [True, False, 0.05], [False, None, 0.0]], id=7)
    controller.send_data(b"after")
    controller.terminal.write(b"boot log")
    assert controller.receive_data(8) == b"boot log"
    assert controller.receive() == {"type": "done", "id": 7}
    assert [change[1:] for change in changes] == [(False, True), (True, False), (False, None)]
    assert changes[1][0] - changes[0][0] >= 0.1
    assert changes[2][0] - changes[1][0] >= 0.05
    assert controller.terminal.read(5) == b"after"


def test_line_changes_that_arrive_together_keep_their_distance(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    monkeypatch.setattr(SerialPort, "set_lines", lambda *_: times.append(time.monotonic()))
    for number, at in enumerate((5000.0, 5000.1, 5000.1, 5000.15)):
        controller.send(type="lines", dtr=True, rts=False, at=at, id=number)
    assert [controller.receive()["id"] for _ in range(4)] == [0, 1, 2, 3]
    # A busy machine may make them longer, nothing may make them shorter.
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= least for gap, least in zip(gaps, (0.099, 0.0, 0.049), strict=True)), gaps


def test_discard_input_drops_what_came_before_it(controller: Controller) -> None:
    controller.terminal.write(b"old")
    time.sleep(0.05)
    controller.send(type="discard_input", id=1)
    controller.send(type="credit", bytes=100)
    assert controller.receive() == {"type": "done", "id": 1}
    controller.terminal.write(b"new")
    assert controller.receive_data(3) == b"new"


def test_break_is_held_for_its_time(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[tuple[float, bool]] = []
    monkeypatch.setattr(SerialPort, "set_break", lambda _, active: changes.append((time.monotonic(), active)))
    controller.send(type="break", seconds=0.05, id=1)
    controller.send(type="break", on=True, id=2)
    assert [controller.receive()["id"] for _ in range(2)] == [1, 2]
    assert [active for _, active in changes] == [True, False, True]
    assert changes[1][0] - changes[0][0] >= 0.05


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "baudrate", "value": "fast"}, "expected a number"),
        ({"type": "baudrate", "value": 0}, "is not a speed"),
        ({"type": "play", "steps": [[True]]}, "is not a list of"),
        ({"type": "play", "steps": [[True, True, 99]]}, "not between 0 and 10 s"),
        ({"type": "reboot"}, "unknown command 'reboot'"),
    ],
)
def test_a_wrong_command_is_answered_and_the_port_lives_on(
    controller: Controller, message: dict[str, Any], words: str
) -> None:
    controller.send(**message, id=1)
    answer = controller.receive()
    assert answer["type"] == "error" and answer["id"] == 1 and words in answer["message"]
    controller.send(type="drain", id=2)
    assert controller.receive() == {"type": "done", "id": 2}


def test_close_hands_its_report_to_whoever_lent_the_port(controller: Controller) -> None:
    controller.send_data(b"last")
    controller.send(type="close", id=3, ok=False, error="verify failed")
    assert controller.receive() == {"type": "done", "id": 3}
    controller.thread.join(5)
    assert isinstance(controller.result, dict)
    assert controller.result["ok"] is False and controller.result["error"] == "verify failed"
    assert controller.terminal.read(4) == b"last"
    # The lender goes on with it.
    controller.port.write(b"mine")
    assert controller.terminal.read(4) == b"mine"


def test_a_lost_controller_is_noticed_in_the_middle_of_a_command(controller: Controller) -> None:
    controller.send(type="play", steps=[[True, True, 5.0]], id=1)
    time.sleep(0.05)
    started = time.monotonic()
    controller.end()
    assert controller.result == {}
    assert time.monotonic() - started < 10


def test_a_silent_controller_loses_the_port(terminal: PseudoTerminal) -> None:
    controller = Controller(terminal, silence=0.3)
    for _ in range(4):
        time.sleep(0.15)
        controller.send(type="ping")
    assert controller.thread.is_alive()
    controller.thread.join(2)
    assert controller.result == {}
    controller.end()


def test_unplugging_is_reported_and_raised(controller: Controller) -> None:
    controller.send(type="credit", bytes=100)
    controller.terminal.unplug()
    message = controller.receive()
    assert message["type"] == "error" and "id" not in message and "unplugged" in message["message"]
    controller.thread.join(5)
    assert isinstance(controller.result, PortError)


def test_idle_serving_costs_no_time(controller: Controller) -> None:
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.2


class Process:
    """``serve.main`` on a pair of pipes."""

    def __init__(self) -> None:
        stdin, self.write_fd = os.pipe()
        read_fd, stdout = os.pipe()
        self.stream = os.fdopen(read_fd, "rb", buffering=0)
        self.exit_code: int | None = None

        def run() -> None:
            self.exit_code = serve.main(stdin, stdout)
            os.close(stdin)
            os.close(stdout)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def send(self, **message: Any) -> None:
        os.write(self.write_fd, wire.encode_json(message))

    def receive(self) -> Any:
        frame = wire.read_frame(self.stream)  # type: ignore[arg-type]
        return frame and wire.decode_json(frame[1])

    def end(self) -> int | None:
        os.close(self.write_fd)
        self.thread.join(5)
        self.stream.close()
        return self.exit_code


def test_main_opens_serves_and_frees_the_port(terminal: PseudoTerminal) -> None:
    process = Process()
    process.send(type="open", port=terminal.path, baudrate=250000)
    assert process.receive() == {"type": "opened"}
    assert terminal.speed() == 250000
    process.send(type="close", id=1)
    assert process.receive()["type"] == "credit"
    assert process.receive() == {"type": "done", "id": 1}
    assert process.end() == 0
    assert not holders(terminal.path)
    SerialPort.open(terminal.path).close()


def test_main_frees_the_port_when_the_channel_drops(terminal: PseudoTerminal) -> None:
    process = Process()
    process.send(type="open", port=terminal.path)
    assert process.receive() == {"type": "opened"}
    assert process.end() == 1
    SerialPort.open(terminal.path).close()


def test_main_says_why_a_port_cannot_be_opened() -> None:
    process = Process()
    process.send(type="open", port="/dev/ttyUSB-none")
    assert process.receive()["message"].startswith("/dev/ttyUSB-none: no such port")
    assert process.end() == 1


def test_tool_that_lives_and_does_nothing_is_given_up(
    terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "TOOL_SILENCE", 0.5)
    port = SerialPort.open(terminal.path)
    here, there = socket.socketpair()
    there.setblocking(False)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.05):
            here.sendall(wire.encode_json({"type": "ping"}))

    heart = threading.Thread(target=live)
    heart.start()
    try:
        assert serve.ToolServer(port, there.fileno()).exchange([{"type": "call"}]) == ({}, [])
    finally:
        over.set()
        heart.join()
        here.close()
        there.close()
        port.close()
