"""A gateway's telemetry is listened to at a real broker; what is kept, what is said, and what never comes."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fleetflash.functional import mqtt_client
from fleetflash.functional.description import MqttCheck, TopicCheck
from fleetflash.functional.errors import AskError
from fleetflash.functional.mqtt_client import listen
from fleetflash.functional.mqtt_messages import Message, judge_message, matches
from fleetflash.functional.verdict import Verdict
from fleetflash.secret import Secret
from tests.unit.mqtt_broker import PASSWORD, USER, Broker, needs_mosquitto

SECRET = Secret("checks.mqtt.auth", PASSWORD)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        broker.publish("bms/gw/status", "online", retain=True)
        yield broker


def hear(port: int, secret: Secret | None = SECRET, **topics: Any) -> dict[str, Verdict]:
    login = {"user": USER, "auth": {"env": "X"}} if secret else {}
    described = {"broker": "127.0.0.1", "port": port, "topics": topics, **login}
    return listen(MqttCheck.model_validate(described), secret)


class Gateway:
    """Says the same again and again while a test listens."""

    def __init__(self, broker: Broker, topic: str, *payloads: str) -> None:
        self._broker, self._topic, self._payloads = broker, topic, payloads
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(0.05):
            self._broker.publish(self._topic, self._payloads[min(number, len(self._payloads) - 1)])
            number += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@needs_mosquitto
def test_a_status_that_the_broker_keeps(broker: Broker) -> None:
    found = hear(broker.port, status={"topic": "bms/gw/status", "retained": True, "payload": "online"})
    assert found == {"status": Verdict("online")}


@needs_mosquitto
def test_what_the_broker_keeps_is_no_telemetry(broker: Broker) -> None:
    assert hear(broker.port, now={"topic": "bms/gw/status", "within": 0.5}) == {}


@needs_mosquitto
def test_telemetry_with_its_fields(broker: Broker) -> None:
    telemetry = {"topic": "bms/+/telemetry", "fields": {"soc": {"min": 0, "max": 100}}}
    with Gateway(broker, "bms/gw/telemetry", json.dumps({"soc": 81})):
        assert hear(broker.port, telemetry=telemetry) == {"telemetry": Verdict("soc = 81")}


@needs_mosquitto
def test_the_first_message_as_expected_is_enough_and_else_the_last_is_told(broker: Broker) -> None:
    with Gateway(broker, "bms/gw/state", "starting", "running"):
        assert hear(broker.port, state={"topic": "bms/gw/state", "payload": "running"})["state"] == Verdict("running")
        stopped = hear(broker.port, state={"topic": "bms/gw/state", "payload": "stopped", "within": 0.5})["state"]
    assert stopped.found == "running" and stopped.problem == "bms/gw/state: 'running'"


@needs_mosquitto
def test_one_topic_that_is_silent_does_not_hide_the_other(broker: Broker) -> None:
    found = hear(
        broker.port,
        status={"topic": "bms/gw/status", "retained": True},
        silent={"topic": "bms/other/#", "retained": True, "within": 0.5},
    )
    assert list(found) == ["status"]


@needs_mosquitto
@pytest.mark.parametrize("secret", [None, Secret("x", "wrong horse battery")])
def test_a_broker_that_refuses_the_login_is_an_error_without_the_password(
    broker: Broker, secret: Secret | None
) -> None:
    with pytest.raises(AskError, match=rf"broker 127\.0\.0\.1:{broker.port} refuses: Not authorized") as caught:
        hear(broker.port, secret, status={"topic": "bms/gw/status"})
    assert "horse" not in str(caught.value)


def serve(answer: bytes, close: bool) -> int:
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = server.accept()
        connection.recv(1 << 16)
        connection.sendall(answer)
        if close:
            connection.close()
        server.accept()

    threading.Thread(target=run, daemon=True).start()
    return int(server.getsockname()[1])


def test_nobody_there_is_an_error_that_names_the_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(AskError, match=rf"broker 127\.0\.0\.1:{port} can't be reached: Connection refused"):
        hear(port, None, status={"topic": "t"})


def test_whoever_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "CONNECT_SECONDS", 0.5)
    with pytest.raises(AskError, match="does it speak MQTT"):
        hear(serve(b"", close=False), None, status={"topic": "t"})


def test_a_connection_that_is_closed_in_the_middle_is_an_error() -> None:
    # CONNACK, accepted (MQTT 3.1.1, section 3.2).
    with pytest.raises(AskError, match="closes the connection"):
        hear(serve(b"\x20\x02\x00\x00", close=True), None, status={"topic": "t"})


@pytest.mark.parametrize(
    ("pattern", "topic", "covered"),
    [
        # The examples of MQTT 3.1.1, sections 4.7.1.2, 4.7.1.3 and 4.7.2.
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/", True),
        ("a/b", "a/B", False),
    ],
)
def test_topic_filters_are_those_of_the_standard(pattern: str, topic: str, covered: bool) -> None:
    assert matches(pattern, topic) is covered


@pytest.mark.parametrize(
    ("check", "payload", "problem"),
    [
        ({"payload": {"min": 40, "max": 60}}, b"52.3", False),
        ({"payload": {"min": 40, "max": 60}}, b"61", True),
        ({"payload": {"min": 40, "max": 60}}, b"nan", True),
        ({"payload": {"min": 40, "max": 60}}, b"online", True),
        ({"fields": {"soc": {"max": 100}}}, b'{"soc": 101}', True),
        ({"fields": {"soc": {"max": 100}}}, b"not json", True),
        ({}, b"", False),
    ],
)
def test_a_payload_is_judged_as_text_number_or_fields(check: dict[str, Any], payload: bytes, problem: bool) -> None:
    verdict = judge_message(TopicCheck.model_validate({"topic": "t", **check}), Message("t", payload, False))
    assert verdict is not None and bool(verdict.problem) is problem
