"""Moonraker and a user's program switch what they are told, and what they can't is said before anything stops."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from transaction_host import FakeHost, make_host

from fleetflash.agent import moonraker_facts, moonraker_power, power_supply
from fleetflash.agent.power_supply import PowerError
from fleetflash.agent.schema import BoardTransaction, Power, Transaction, from_json, to_json

#: Before the fake host replaces it.
switch = power_supply.switch


class FakeMoonraker:
    """Answers as the documentation of Moonraker's power endpoints says."""

    def __init__(self) -> None:
        self.devices = {"usb hub": {"status": "on", "type": "gpio"}, "lamp": {"status": "on", "type": "klipper_device"}}
        self.asked: list[dict[str, Any]] = []
        self.stuck = False
        self.status = 200
        self.odd = b""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path in ("/machine/device_power/devices", "/server/info")
                self.say({"devices": [{"device": name, **device} for name, device in fake.devices.items()]})

            def do_POST(self) -> None:
                assert self.path == "/machine/device_power/device"
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.asked.append(request)
                device = fake.devices[request["device"]]
                device["status"] = device["status"] if fake.stuck else request["action"]
                self.say({request["device"]: device["status"]})

            def say(self, result: Any) -> None:
                error = {"error": {"code": fake.status, "message": "no\nsuch thing"}}
                data = fake.odd or json.dumps({"result": result} if fake.status == 200 else error).encode()
                self.send_response(fake.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def moonraker() -> Iterator[FakeMoonraker]:
    fake = FakeMoonraker()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return make_host(tmp_path, monkeypatch, "a")


def board(host: FakeHost, power: Power) -> BoardTransaction:
    return replace(host.transaction().boards[0], power=power)


def whole(host: FakeHost, power: Power) -> Transaction:
    return host.transaction(power=power)


def test_moonrakers_device_is_switched_off_and_on(host: FakeHost, moonraker: FakeMoonraker) -> None:
    power = Power(device="usb hub", port=moonraker.port)
    for on in (False, True):
        switch(board(host, power), power, on, "t-1")
        assert moonraker.devices["usb hub"]["status"] == ("on" if on else "off")
    assert moonraker.asked == [{"device": "usb hub", "action": word} for word in ("off", "on")]


def test_device_that_does_not_follow_is_an_error(host: FakeHost, moonraker: FakeMoonraker) -> None:
    power, moonraker.stuck = Power(device="usb hub", port=moonraker.port), True
    with pytest.raises(PowerError, match=r"a: Moonraker .*: power device usb hub was switched off, but is 'on'"):
        switch(board(host, power), power, False, "t-1")


@pytest.mark.parametrize(
    ("status", "words"), [(401, "asks for a login; add 127.0.0.0/8 to trusted_clients"), (400, r"HTTP 400 \(no such")]
)
def test_moonraker_that_refuses_says_why(host: FakeHost, moonraker: FakeMoonraker, status: int, words: str) -> None:
    power, moonraker.status = Power(device="usb hub", port=moonraker.port), status
    with pytest.raises(PowerError, match=words):
        switch(board(host, power), power, False, "t-1")


def test_answer_that_nests_without_end_is_one_error(host: FakeHost, moonraker: FakeMoonraker) -> None:
    power, moonraker.odd = Power(device="usb hub", port=moonraker.port), b"[" * 100_000
    assert "recursion" in moonraker_facts.ask(moonraker.port)["error"]
    for status, words in ((200, "not Moonraker's answer .*recursion"), (400, "HTTP 400$")):
        moonraker.status = status
        with pytest.raises(PowerError, match=words):
            switch(board(host, power), power, False, "t-1")


def test_device_that_moonraker_does_not_know_is_refused_before_klipper_stops(
    host: FakeHost, moonraker: FakeMoonraker
) -> None:
    assert host.run(whole(host, Power(device="usb_hub", port=moonraker.port))) == "refused"
    detail = host.outcome()["detail"]
    assert "a: power: Moonraker has no power device 'usb_hub', it has lamp and usb hub" in detail
    assert "nothing was stopped" in detail and ("stop", "") not in host.steps


def test_device_that_klipper_switches_is_refused(host: FakeHost, moonraker: FakeMoonraker) -> None:
    assert host.run(whole(host, Power(device="lamp", port=moonraker.port))) == "refused"
    assert "is switched by Klipper, which is stopped" in host.outcome()["detail"]


def test_moonraker_without_any_device_is_refused(host: FakeHost, moonraker: FakeMoonraker) -> None:
    moonraker.status = 404
    assert moonraker_power.devices(moonraker.port) == {}
    assert "it has none" in power_supply.why_unusable(board(host, Power(device="usb hub", port=moonraker.port)))


def test_moonraker_that_is_silent_now_keeps_nobody_from_flashing(host: FakeHost, moonraker: FakeMoonraker) -> None:
    moonraker.server.server_close()
    power = Power(device="usb hub", port=moonraker.port)
    assert host.run(whole(host, power)) == "committed"
    with pytest.raises(PowerError, match=f"a: http://127.0.0.1:{moonraker.port}/machine.*refused"):
        switch(board(host, power), power, False, "t-1")


@pytest.fixture
def relay(tmp_path: Path) -> str:
    path = tmp_path / "relay"
    path.write_text(f'#!/bin/sh\necho "$FLEETFLASH_BOARD $*" >> {tmp_path}/switched\ntest "$2" = on || exit 3\n')
    path.chmod(0o755)
    return str(path)


def test_program_gets_off_and_on_as_its_last_word(host: FakeHost, relay: str, tmp_path: Path) -> None:
    power = Power(command=[relay, "port 2"])
    switch(board(host, power), power, True, "t-1")
    with pytest.raises(PowerError, match=r"a: power command .*relay … off ended with exit code 3; it said: nothing"):
        switch(board(host, power), power, False, "t-1")
    assert (tmp_path / "switched").read_text() == "a port 2 on\na port 2 off\n"


def test_program_that_does_not_end_is_killed(host: FakeHost) -> None:
    power = Power(command=["sh", "-c", "sleep 600"], seconds=0.2)
    with pytest.raises(PowerError, match=r"did not end within 0.2 s and was killed"):
        switch(board(host, power), power, False, "t-1")


def test_program_that_is_not_there_is_refused_before_klipper_stops(host: FakeHost) -> None:
    assert host.run(whole(host, Power(command=["/nowhere/relay"]))) == "refused"
    assert "a: power: /nowhere/relay is no program on this host" in host.outcome()["detail"]
    assert ("stop", "") not in host.steps


def test_power_survives_the_way_to_the_host(host: FakeHost) -> None:
    asked = whole(host, Power(command=["relay", "2"], seconds=5.0))
    assert from_json(Transaction, json.loads(json.dumps(to_json(asked)))) == asked
