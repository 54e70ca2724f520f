"""klippy is believed when it answers, in time, and whatever else happens is one typed error."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import klippy
from fleetflash.agent.klippy import KlippyError, status, wait_until_answers, wait_until_ready
from fleetflash.agent.schema import Firmware

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
MCU = {"mcu_version": "v1", "mcu_build_versions": "gcc", "mcu_constants": {"MCU": "ch32v203"}}


class FakeKlippy:
    """A server on a unix socket that speaks as Klipper's ``docs/API_Server.md`` says: JSON, each ended by 0x03."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.state, self.message = "ready", "Printer is ready"
        self.objects: dict[str, Any] = {
            "mcu": MCU,
            "mcu toolhead": {"mcu_version": "v2"},
            "print_stats": {"state": "standby"},
            "pause_resume": {"is_paused": False},
            "idle_timeout": {"state": "Ready"},
            "gcode_move": {},
        }
        self.itself = {"software_version": "v3", "klipper_path": "/home/pi/klipper", "python_path": "/usr/bin/python3"}
        #: Called with the request; returns the bytes to send instead of an honest answer, or ``None``.
        self.disturb: Callable[[dict[str, Any]], bytes | None] = lambda request: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(5)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        buffer = b""
        with client, contextlib.suppress(OSError):
            while data := client.recv(4096):
                buffer += data
                while b"\x03" in buffer:
                    message, _, buffer = buffer.partition(b"\x03")
                    request = json.loads(message)
                    answer = self.disturb(request)
                    client.sendall(self._answer(request) if answer is None else answer)

    def _answer(self, request: dict[str, Any]) -> bytes:
        if request["method"] == "info":
            result: dict[str, Any] = {"state": self.state, "state_message": self.message, **self.itself}
        elif self.state in ("startup", "error"):
            return encode({"id": request["id"], "error": {"error": "WebRequestError", "message": "Printer not ready"}})
        elif request["method"] == "objects/list":
            result = {"objects": list(self.objects)}
        else:
            # As ``klippy/webhooks.py`` has it: what is not there has no fields, and each that is asked for is null.
            asked = request["params"]["objects"]
            known = {name: self.objects.get(name, {}) for name in asked}
            result = {"status": {n: {f: known[n].get(f) for f in asked[n] or known[n]} for n in asked}}
        return encode({"id": request["id"], "result": result})

    def stop(self) -> None:
        self._listener.close()


def encode(message: object) -> bytes:
    return json.dumps(message).encode() + b"\x03"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeKlippy]:
    fake = FakeKlippy(tmp_path / "klippy.sock")
    yield fake
    fake.stop()


# What klippy says


def test_objects_are_answered_by_their_names_and_unknown_ones_not_at_all(server: FakeKlippy) -> None:
    server.objects["temperature_sensor ams"] = {"temperature": 23.4}
    found = klippy.query(server.path, ["temperature_sensor ams", "nobody"])
    assert found == {"temperature_sensor ams": {"temperature": 23.4}}
    server.disturb = lambda request: encode({"id": 1, "result": {"status": "odd"}})
    assert klippy.query(server.path, ["nobody"]) == {}
    server.state = "error"
    server.disturb = lambda request: None
    with pytest.raises(KlippyError, match="objects/query: Printer not ready"):
        klippy.query(server.path, ["nobody"])


def test_ready_printer_tells_its_state_and_what_every_board_runs(server: FakeKlippy) -> None:
    found = status(server.path)
    assert (found.state, found.print_state, found.paused) == ("ready", "standby", False)
    assert found.mcus == {
        "mcu": Firmware("klippy", "v1", "gcc", {"MCU": "ch32v203"}),
        "toolhead": Firmware("klippy", "v2"),
    }


def test_board_that_klippy_does_not_reach_is_no_version(server: FakeKlippy) -> None:
    server.objects["mcu toolhead"] = {}
    assert status(server.path).mcus["toolhead"] == Firmware("none", error="klippy is not connected to it")


@pytest.mark.parametrize("state", ["startup", "error", "ready"])
def test_klippy_tells_what_it_is_itself_whatever_its_state(server: FakeKlippy, state: str) -> None:
    server.state = state
    found = status(server.path)
    assert (found.version, found.path, found.python) == ("v3", "/home/pi/klipper", "/usr/bin/python3")


@pytest.mark.parametrize("state", ["startup", "error"])
def test_klippy_without_its_configuration_still_tells_its_state(server: FakeKlippy, state: str) -> None:
    server.state, server.message = state, "mcu 'mcu': Unable to connect"
    found = status(server.path)
    assert (found.state, found.message, found.mcus) == (state, "mcu 'mcu': Unable to connect", {})


def test_klippy_in_shutdown_still_tells_what_its_boards_run(server: FakeKlippy) -> None:
    server.state = "shutdown"
    found = status(server.path)
    assert found.state == "shutdown" and found.mcus["mcu"].version == "v1"


@pytest.mark.parametrize(
    ("print_stats", "idle", "expected"),
    [
        ("printing", "Printing", "printing"),
        ("paused", "Printing", "paused"),
        ("paused", "Idle", "paused"),
        ("complete", "Ready", "complete"),
        # OctoPrint sends the lines itself: only idle_timeout knows.
        ("standby", "Printing", "printing"),
        ("complete", "Printing", "printing"),
        (None, "Printing", "printing"),
        (None, "Ready", "standby"),
        (None, "Idle", "standby"),
        ("cancelled", None, "cancelled"),
        # Nobody says anything: not known, and so not "standby".
        (None, None, ""),
        (None, "something new", ""),
    ],
)
def test_print_is_seen_whoever_prints(server: FakeKlippy, print_stats: Any, idle: Any, expected: str) -> None:
    for name, state in (("print_stats", print_stats), ("idle_timeout", idle)):
        server.objects[name] = {"state": state}
        if state is None:
            del server.objects[name]
    assert status(server.path).print_state == expected


def test_pause_is_seen_where_only_pause_resume_tells(server: FakeKlippy) -> None:
    server.objects["pause_resume"] = {"is_paused": True}
    assert status(server.path).paused
    del server.objects["pause_resume"]
    assert not status(server.path).paused


def test_sections_name_the_ports_that_klippy_uses(server: FakeKlippy) -> None:
    server.objects["configfile"] = {
        "settings": {
            "mcu": {"serial": "/dev/serial/by-path/one", "baud": 250000},
            "mcu toolhead": {"serial": "/dev/two"},
            "mcu can": {"canbus_uuid": "12345678ABCD"},
            "mcu other": {"canbus_uuid": "12345678abce", "canbus_interface": "can1", "baud": 1},
            "mcu nowhere": {},
            "printer": {"kinematics": "none"},
        }
    }
    sections = status(server.path, sections=True).sections
    found = {section.name: (section.serial, section.baud, section.firmware.version) for section in sections}
    assert found == {
        "mcu": ("/dev/serial/by-path/one", 250000, "v1"),
        "toolhead": ("/dev/two", 250000, "v2"),
        "can": ("can0:12345678abcd", 250000, ""),
        "other": ("can1:12345678abce", 1, ""),
    }
    assert status(server.path).sections == []


def test_message_in_pieces_and_notices_in_between_are_understood(server: FakeKlippy) -> None:
    whole = encode({"method": "notify_gcode_response", "params": ["ok"]}) + encode([1, 2])

    def disturb(request: dict[str, Any]) -> bytes | None:
        return whole + server._answer(request) + whole

    server.disturb = disturb
    assert status(server.path).state == "ready"


# What goes wrong


def test_absent_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KlippyError, match=rf"{tmp_path}/none.sock: No such file"):
        status(str(tmp_path / "none.sock"))
    (tmp_path / "stale.sock").touch()
    with pytest.raises(KlippyError, match="refused"):
        status(str(tmp_path / "stale.sock"))


@pytest.mark.parametrize("method", ["info", "objects/list", "objects/query"])
def test_silent_server_is_an_error_in_time(server: FakeKlippy, method: str) -> None:
    server.disturb = lambda request: b"" if request["method"] == method else None
    started = time.monotonic()
    with pytest.raises(KlippyError, match=f"{server.path}: {method}: "):
        status(server.path, timeout=0.3)
    assert 0.25 < time.monotonic() - started < 10


def test_server_that_talks_without_end_is_an_error_in_time(server: FakeKlippy) -> None:
    """Each byte comes soon enough, the answer never."""
    started = time.monotonic()

    def drip(request: dict[str, Any]) -> bytes | None:
        while time.monotonic() - started < 2:
            time.sleep(0.05)
            clients[0].sendall(b" ")
        return b""

    clients: list[socket.socket] = []
    talk = server._talk
    server._talk = lambda client: (clients.append(client), talk(client))[1]  # type: ignore[method-assign]
    server.disturb = drip
    with pytest.raises(KlippyError):
        status(server.path, timeout=0.3)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"not json\x03", "Expecting value"),
        (b"ab\xc3(\x03", "decode"),
        (b"[" * 100_000 + b"\x03", "recursion"),
        (encode({"id": 1, "error": {"message": "webhooks: nope"}}), "webhooks: nope"),
        (encode({"id": 1, "error": "nope"}), "nope"),
        (encode({"id": 1, "result": "text"}), "expected an object, got 'text'"),
        (encode({"id": 1, "result": [1]}), "expected an object"),
    ],
)
def test_answer_that_makes_no_sense_is_an_error_that_says_what_came(
    server: FakeKlippy, answer: bytes, words: str
) -> None:
    server.disturb = lambda request: answer
    with pytest.raises(KlippyError, match=f"{server.path}: info: .*{words}"):
        status(server.path)


def test_answer_that_has_no_end_is_an_error_before_it_fills_the_memory(
    server: FakeKlippy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(klippy, "MAX_ANSWER", 100_000)
    server.disturb = lambda request: b" " * 300_000
    with pytest.raises(KlippyError, match=f"{server.path}: info: its answer is longer than 100000 bytes"):
        status(server.path)


def test_klippy_that_ends_meanwhile_is_an_error(server: FakeKlippy) -> None:
    def end(request: dict[str, Any]) -> bytes | None:
        raise OSError

    server.disturb = end
    with pytest.raises(KlippyError, match=r"klippy closed the connection|reset"):
        status(server.path)


def test_no_objects_from_a_klippy_that_claims_to_be_ready_is_an_error(server: FakeKlippy) -> None:
    """Otherwise a print would go unseen."""
    refusal = encode({"id": 1, "error": {"message": "no such method"}})
    server.disturb = lambda request: refusal if request["method"] == "objects/list" else None
    with pytest.raises(KlippyError, match="objects/list: no such method"):
        status(server.path)


# Until it is ready


def test_klippy_is_waited_for_until_it_is_ready(server: FakeKlippy) -> None:
    server.state = "startup"
    threading.Timer(0.3, lambda: setattr(server, "state", "ready")).start()
    started = time.monotonic()
    assert wait_until_ready(server.path, 5.0).mcus["mcu"].version == "v1"
    assert 0.25 < time.monotonic() - started < 10


def test_socket_that_appears_late_is_waited_for(tmp_path: Path) -> None:
    servers: list[FakeKlippy] = []
    timer = threading.Timer(0.2, lambda: servers.append(FakeKlippy(tmp_path / "late.sock")))
    timer.start()
    assert wait_until_ready(str(tmp_path / "late.sock"), 5.0).state == "ready"
    timer.join()
    servers[0].stop()


def test_klippy_that_need_not_get_ready_is_waited_for_until_it_says_anything(tmp_path: Path) -> None:
    servers: list[FakeKlippy] = []

    def appear() -> None:
        servers.append(FakeKlippy(tmp_path / "late.sock"))
        servers[0].state = "error"

    timer = threading.Timer(0.2, appear)
    timer.start()
    assert wait_until_answers(str(tmp_path / "late.sock"), 5.0).version == "v3"
    timer.join()
    servers[0].stop()
    with pytest.raises(KlippyError, match=r"none\.sock: No such file"):
        wait_until_answers(str(tmp_path / "none.sock"), 0.3)


def test_klippy_that_is_not_ready_in_time_is_told_with_its_own_words(server: FakeKlippy) -> None:
    server.state, server.message = "startup", "Printer is not ready\nThe klippy host software is attempting to connect."
    with pytest.raises(KlippyError) as caught:
        wait_until_ready(server.path, 0.4)
    assert str(caught.value) == (
        "klippy is not ready: state startup: Printer is not ready The klippy host software is attempting to connect."
    )


def test_klippy_that_never_opens_its_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(KlippyError, match=r"klippy is not ready: .*none.sock: No such file"):
        wait_until_ready(str(tmp_path / "none.sock"), 0.3)


def test_klippy_that_stays_in_error_is_not_waited_for_to_the_end(
    server: FakeKlippy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own second attempt after a board's restart may succeed; ten seconds of error are an answer."""
    server.state, server.message = "error", "Unknown pin"
    clock = [0.0]
    monkeypatch.setattr(klippy.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(klippy.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 1.0))
    with pytest.raises(KlippyError, match="state error: Unknown pin"):
        wait_until_ready(server.path, 60.0)
    assert 10 <= clock[0] < 15


def test_error_that_passes_is_not_the_end(server: FakeKlippy) -> None:
    server.state = "error"
    threading.Timer(0.3, lambda: setattr(server, "state", "ready")).start()
    assert wait_until_ready(server.path, 5.0).state == "ready"


def test_klippy_that_never_opened_its_socket_is_told_from_one_that_is_silent_or_has_another(tmp_path: Path) -> None:
    path = str(tmp_path / "klippy.sock")

    def hangs(*arguments: str) -> bool:
        process = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()", *arguments], **PIPES)
        with process:
            assert process.stdin and process.stdout and process.stdout.readline()
            found = klippy.never_opened(path, process.pid)
            process.stdin.write(b"\n")
        return found

    assert hangs("printer.cfg", "-a", path) and hangs("--api-server", path)
    assert not hangs("printer.cfg", "-a", f"{path}.other") and not hangs("printer.cfg", path)
    assert not klippy.never_opened(path, 0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert not hangs("-a", path)
        Path(path).unlink()
        assert not hangs("-a", path), "it may print, although its socket's file was removed"
