"""What the inventory says of a gateway's checks is read with the board's own values, or refused naming the field."""

from typing import Any

import pytest

from fleetflash.boards import Board, read_host
from fleetflash.functional.description import Checks, read_checks
from fleetflash.functional.errors import CheckDataError

URL = {"url": "http://{address}/"}


def board(checks: Any, **fields: Any) -> Board:
    described = {"port": "/dev/serial/by-path/p", "chip": "esp32", "programmer": "esptool", "firmware": "gateway"}
    data = {"klipper_service": None, "boards": {"gw": {**described, "checks": checks, **fields}}}
    (found,) = read_host("desk", data).boards
    return found


def checks(described: Any, **fields: Any) -> Checks:
    return read_checks("desk", board(described, **{"address": "10.0.0.7", "firmware_version": "v1.2.0", **fields}))


def test_text_takes_the_values_of_the_board() -> None:
    found = checks(
        {
            "http": {"api": {"url": "http://{address}/api/status", "fields": {"version": "{version}"}}},
            "mqtt": {
                "broker": "mqtt.lan",
                "topics": {"t": {"topic": "site/{host}/{board}/soc", "payload": {"min": 0}}},
            },
        }
    )
    assert found.http["api"].url == "http://10.0.0.7/api/status"
    assert found.http["api"].fields["version"].equals == "v1.2.0"
    assert found.mqtt is not None and found.mqtt.topics["t"].topic == "site/desk/gw/soc"


def test_checks_of_a_group_are_inherited_and_the_address_is_each_gateways_own() -> None:
    described = {"port": "/dev/x", "chip": "esp32", "programmer": "esptool", "firmware": "gateway"}
    boards = {name: {**described, "address": f"{name}.lan"} for name in ("a", "b")}
    host = read_host("desk", {"klipper_service": None, "checks": {"http": {"web": URL}}, "boards": boards})
    assert [read_checks("desk", each).http["web"].url for each in host.boards] == ["http://a.lan/", "http://b.lan/"]


def test_victrons_messages_are_those_that_are_looked_for_unless_others_are_named() -> None:
    found = checks({"can": {"interface": "can0"}}).can
    assert found is not None and list(found.messages) == ["0x351", "0x355", "0x356"]


def test_what_has_no_placeholders_name_stays_as_it_is() -> None:
    found = checks({"http": {"x": {**URL, "fields": {"id": {"pattern": "[0-9a-f]{4}{word}"}}}}})
    assert found.http["x"].fields["id"].pattern == "[0-9a-f]{4}{word}"


@pytest.mark.parametrize(
    ("described", "fields", "said"),
    [
        ({"http": {"web": URL}}, {"address": ""}, "needs the board's address"),
        (
            {"http": {"a": {**URL, "fields": {"v": "{version}"}}}},
            {"firmware_version": None},
            "needs the board's firmware_version",
        ),
        (
            {"http": {"a": {**URL, "fields": {"v": "{version}"}}}},
            {"firmware_version": "sha256:00"},
            "text that is no hash",
        ),
        ({"http": {"web": {}}}, {}, "checks.http.web.url is missing"),
        ({"http": {"web": {"url": "ftp://x/"}}}, {}, "checks.http.web.url"),
        ({"http": {"web": {"url": "http://me:secret@x/"}}}, {}, "checks.http.web.url"),
        ({"http": {"web": {**URL, "status": 99}}}, {}, "checks.http.web.status"),
        ({"http": {"web": {**URL, "user": "me"}}}, {}, "user without auth"),
        ({"http": {"web": {**URL, "within": 0}}}, {}, "checks.http.web.within"),
        (
            {"http": {"web": {**URL, "password": "hunter2hunter2"}}},
            {},
            "no field of a check; a secret's source is auth",
        ),
        ({"http": {"web": {**URL, "fields": {"v": {"min": 2, "max": 1}}}}}, {}, "min 2 is above max 1"),
        ({"mqtt": {"broker": "b"}}, {}, "checks.mqtt.topics is missing"),
        ({"mqtt": {"broker": "b", "topics": {}}}, {}, "checks.mqtt.topics"),
        ({"mqtt": {"broker": "b", "auth": {"env": "P"}, "topics": {"t": {"topic": "t"}}}}, {}, "auth without user"),
        ({"mqtt": {"broker": "b", "auth": {}, "user": "u", "topics": {"t": {"topic": "t"}}}}, {}, "one of env, file"),
        ({"mqtt": {"broker": "b", "topics": {"t": {"topic": "t", "whithin": 3}}}}, {}, "whithin is no field"),
        ({"can": {}}, {}, "expected log, or interface"),
        ({"can": {"log": "x", "host": "bench"}}, {}, "leave host out"),
        ({"can": {"interface": "can0; reboot"}}, {}, "checks.can.interface"),
        ({"can": {"interface": "can0", "host": "-oProxyCommand=x"}}, {}, "checks.can.host"),
        ({"can": {"interface": "can0", "messages": {}}}, {}, "messages is empty"),
        ({"can": {"log": "x", "messages": {"0x351": {"signals": {"V": [2, 1]}}}}}, {}, "V: 2 is above 1"),
        ({"can": {"log": "x", "messages": {"0x351": {"signals": {"V": [1]}}}}}, {}, "signals.V"),
        ({"ping": {}}, {}, "checks.ping is no field"),
    ],
)
def test_a_mistake_is_named_with_its_field_in_one_line(described: Any, fields: Any, said: str) -> None:
    with pytest.raises(CheckDataError) as caught:
        checks(described, **fields)
    message = str(caught.value)
    assert said in message and "\n" not in message and "hunter2" not in message and "secret@" not in message


def test_an_address_that_is_none_refuses_the_board() -> None:
    fields = {"port": "/dev/x", "chip": "esp32", "programmer": "esptool", "firmware": "g", "address": "10.0.0.7/x"}
    assert "address" in dict(read_host("desk", {"klipper_service": None, "boards": {"gw": fields}}).errors)["gw"]
