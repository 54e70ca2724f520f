"""How boards are switched and what Klipper's objects must say: what is malformed is said in one line."""

from typing import Any

import pytest

from fleetflash.agent.schema import ObjectCheck, Power
from fleetflash.boards import BoardDataError, KlipperHost, read_host
from tests.unit.observed import board, plan

PORT = "/dev/serial/by-path/one"
CHECK = {"object": "temperature_sensor ams", "field": "temperature", "min": 5, "max": 60}


def host(fields: Any, **data: Any) -> KlipperHost:
    shared = {"chip": "ch32v203c8t6", "firmware": "klipper", "firmware_version": "v1"}
    return read_host("printer", {**shared, **data, "boards": {"a": {"port": PORT, **fields}}})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"moonraker": "usb hub"}, Power(device="usb hub", port=7125, seconds=20.0)),
        ({"command": "uhubctl -l 1-1 -p '2' -a"}, Power(command=["uhubctl", "-l", "1-1", "-p", "2", "-a"])),
        ({"command": "relay", "seconds": 5}, Power(command=["relay"], seconds=5.0)),
        ({"person": "pull the plug"}, Power(gesture="pull the plug", seconds=120.0)),
        (None, None),
    ],
)
def test_power_is_one_of_three_ways(said: Any, meant: Power | None) -> None:
    assert host({"power": said}, attended=True).boards[0].power == meant


def test_power_is_the_groups_unless_the_board_says_otherwise() -> None:
    assert host({}, power={"moonraker": "hub"}).boards[0].power == Power(device="hub")
    assert host({"power": None}, power={"moonraker": "hub"}).boards[0].power is None
    assert host({"power": {"moonraker": "hub"}}, moonraker_port=7126).boards[0].power == Power(device="hub", port=7126)


def test_person_is_asked_only_where_somebody_is() -> None:
    assert host({"power": {"person": "pull the plug"}}).boards[0].power is None


@pytest.mark.parametrize(
    ("power", "words"),
    [
        ("hub", "power: expected one of 'moonraker', 'command' and 'person'"),
        ({}, "power: expected one of"),
        ({"moonraker": "hub", "command": "x"}, "power: expected one of"),
        ({"moonraker": "hub", "pause": 3}, "power: expected one of"),
        ({"moonraker": 7}, "power: moonraker: expected one line of text"),
        ({"person": ""}, "power: person: expected one line of text"),
        ({"person": "a\nb"}, "power: person: expected one line of text"),
        ({"command": "it's"}, "power: command: expected a program and its arguments"),
        ({"command": "x", "seconds": 0}, "power: seconds: expected seconds, more than 0"),
        ({"command": "x", "seconds": "5"}, "power: seconds: expected seconds"),
        ({"command": "x", "seconds": True}, "power: seconds: expected seconds"),
        ({"command": "x", "seconds": float("inf")}, "power: seconds: expected seconds"),
    ],
)
def test_malformed_power_refuses_the_board_in_one_line(power: Any, words: str) -> None:
    ((name, reason),) = host({"power": power}).errors
    assert name == "a" and words in reason and "\n" not in reason, reason


def test_moonrakers_device_needs_a_moonraker() -> None:
    ((_, reason),) = host({"power": {"moonraker": "hub"}}, moonraker_port=0).errors
    assert "power: this host has no Moonraker (moonraker_port = 0)" in reason


def test_checks_are_the_printers_and_each_boards_own() -> None:
    relay = {"object": "output_pin relay", "field": "value", "equals": 0}
    found = host({"object_checks": [relay]}, object_checks=[CHECK], object_checks_seconds=5)
    assert found.object_checks == (ObjectCheck("temperature_sensor ams", "temperature", None, 5, 60),)
    assert (
        found.boards[0].object_checks == (ObjectCheck("output_pin relay", "value", 0),)
        and found.object_checks_seconds == 5.0
    )


WRONG_CHECKS: list[tuple[Any, str]] = [
    (CHECK, "expected a list of checks"),
    ("ams", "expected a list of checks"),
    (["ams"], "check 1: expected a dictionary"),
    ([{**CHECK, "most": 3}], "check 1: 'most' is no field of a check"),
    ([CHECK, {**CHECK, "object": ""}], "check 2: object: expected text, found ''"),
    ([{**CHECK, "field": 3}], "check 1: field: expected text, found 3"),
    ([{"object": "o", "field": "f"}], "check 1 of o: expected either 'equals', or 'min' or 'max'"),
    ([{**CHECK, "equals": 3}], "check 1 of temperature_sensor ams: expected either 'equals'"),
    ([{**CHECK, "min": "5"}], "min: expected a number, found '5'"),
    ([{**CHECK, "min": True}], "min: expected a number, found True"),
    ([{**CHECK, "max": float("nan")}], "max: expected a number, found nan"),
    ([{**CHECK, "min": 61}], "min 61 is more than max 60"),
    ([{"object": "o", "field": "f", "equals": [1]}], "equals: expected a number, text, True, False or None"),
    ([{"object": "o", "field": "f", "equals": float("nan")}], "equals: expected a number"),
]


@pytest.mark.parametrize(("checks", "words"), WRONG_CHECKS)
def test_malformed_checks_are_refused_in_one_line(checks: Any, words: str) -> None:
    ((_, reason),) = host({"object_checks": checks}).errors
    assert reason.startswith("object_checks: ") and words in reason and "\n" not in reason, reason
    with pytest.raises(BoardDataError) as caught:
        host({}, object_checks=checks)
    assert str(caught.value).startswith("object_checks: ") and words in str(caught.value)


def test_checks_without_klipper_are_refused() -> None:
    with pytest.raises(BoardDataError, match="object_checks: this host has no Klipper"):
        host({}, object_checks=[CHECK], klipper_service=None)
    ((_, reason),) = host({"object_checks": [CHECK]}, klipper_service=None).errors
    assert "object_checks: this host has no Klipper" in reason


@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("inf"), float("nan"), 601])
def test_time_for_the_checks_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(BoardDataError, match="object_checks_seconds: expected seconds"):
        host({}, object_checks=[CHECK], object_checks_seconds=seconds)


def test_transaction_carries_power_and_checks_to_the_host() -> None:
    check, other = ObjectCheck("o", "f", 0), ObjectCheck("p", "f", 1)
    fields = {"power": Power(device="hub"), "object_checks": (check,)}
    found = plan(None, board(**fields), object_checks=(other,), object_checks_seconds=7.0).transaction
    assert found is not None and found.boards[0].power == Power(device="hub") and found.boards[0].checks == [check]
    assert found.checks == [other] and found.checks_seconds == 7.0
