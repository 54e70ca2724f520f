"""Inventory data: what is malformed is said in one line, and hides nothing else."""

from typing import Any

import pytest

from fleetflash.agent.schema import Retention
from fleetflash.boards import BoardDataError, read_duration, read_host

PORT = "/dev/serial/by-path/one"
CAN_PORT = "can0:1234567890ab"


def host(boards: Any, **data: Any) -> Any:
    shared = {"chip": "ch32v203c8t6", "firmware": "klipper", "firmware_version": "v1"}
    return read_host("printer", {**shared, **data, "boards": boards})


def test_board_overrides_what_its_host_says() -> None:
    found = host({"a": {"port": PORT}, "b": {"port": PORT, "firmware_version": "v2", "klippy_mcu": "b"}})
    assert [board.firmware_version for board in found.boards] == ["v1", "v2"]
    assert found.errors == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["port is missing"]),
        ({"port": 7}, ["port", "found 7"]),
        ({"port": "ttyUSB0"}, ["port", "ttyUSB0"]),
        ({"port": PORT, "prot": 1}, ["prot is no field of a board"]),
        ({"port": PORT, "entry": "magic"}, ["entry", "magic"]),
        ({"port": PORT, "wiring": "reset=rts:0,boot=rts:0"}, ["wiring"]),
        ({"port": PORT, "programmer": "magic"}, ["programmer: expected wch_isp or katapult", "found 'magic'"]),
        ({"port": PORT, "programmer": 7}, ["programmer", "found 7"]),
        (
            {"port": PORT, "programmer": "sdcard"},
            ["programmer: this bootloader only reads a file from a card", "firmware.bin", "or install Katapult once"],
        ),
        ({"port": PORT, "entry": "request"}, ["entry: wch_isp is entered by lines or button"]),
        (
            {"port": PORT, "programmer": "stk500", "wiring": "reset=rts:0,boot=dtr:0"},
            ["wiring: stk500 knows no wiring of BOOT0"],
        ),
        ({"port": PORT, "programmer": "katapult", "flash_offset": -1}, ["flash_offset"]),
        ({"port": PORT, "placement": "cloud"}, ["placement", "cloud"]),
        ({"port": PORT, "programmer": "katapult_can"}, ["port: expected interface and canbus_uuid such as can0:"]),
        ({"port": "can0:12", "programmer": "katapult_can"}, ["port: expected interface and canbus_uuid", "can0:12"]),
        ({"port": CAN_PORT}, ["port: expected a device such as /dev/serial/by-path"]),
        (
            {"port": CAN_PORT, "programmer": "katapult_can", "placement": "controller"},
            ["placement: katapult_can has no serial port to lend"],
        ),
        ({"port": PORT, "options": {"colour": "red"}}, ["options: wch_isp knows no option 'colour'; it has none"]),
        ({"port": PORT, "contract": "boot.yaml"}, ["contract: a board of wch_isp says nothing when it boots"]),
        ({"port": PORT, "equipment": {"sd": "yes"}}, ["equipment: there is no contract that it could be judged by"]),
        (
            {"port": PORT, "programmer": "esptool", "contract": "boot.yaml", "equipment": {"sd": True}},
            ["equipment.sd", "found True"],
        ),
        ({"port": PORT, "uid": "xyz"}, ["uid", "xyz"]),
        ({"port": PORT, "hands_seconds": 0}, ["hands_seconds"]),
        ({"port": PORT, "backup_command": "save 'it"}, ["backup_command: expected a program and its arguments"]),
        ({"port": PORT, "backup_command": ["save"]}, ["backup_command", "found ['save']"]),
        ({"port": PORT, "backup_command": "save", "backup_seconds": 0}, ["backup_seconds"]),
        ("ttyUSB0", ["expected a dictionary", "ttyUSB0"]),
        (None, ["expected a dictionary"]),
    ],
)
def test_malformed_board_is_one_line_and_its_neighbour_is_there(fields: Any, words: list[str]) -> None:
    found = host({"bad": fields, "good": {"port": PORT}})
    assert [board.name for board in found.boards] == ["good"]
    ((name, reason),) = found.errors
    assert name == "bad" and "\n" not in reason and all(word in reason for word in words), reason


@pytest.mark.parametrize(
    ("programmer", "entry"),
    [("wch_isp", "lines"), ("katapult", "request"), ("stm32_rom", "lines"), ("stk500", "lines")],
)
def test_way_into_the_bootloader_is_the_programmers_usual_one_unless_said(programmer: str, entry: str) -> None:
    fields = {"port": PORT, "programmer": programmer}
    assert host({"a": fields}).boards[0].entry == entry
    assert host({"a": {**fields, "entry": "button"}}).boards[0].entry == "button"


def test_board_on_a_bus_is_named_by_its_uuid_in_either_case() -> None:
    found = host({"a": {"port": "can0:1234567890AB", "programmer": "katapult_can"}}).boards[0]
    assert (found.port, found.entry) == (CAN_PORT, "request")


def test_two_boards_cannot_be_one_mcu_of_klippys() -> None:
    found = host({"a": {"port": PORT}, "b": {"port": PORT}})
    assert [board.name for board in found.boards] == ["a"]
    assert found.errors == (("b", "klippy_mcu 'mcu' is already that of a; see docs/inventory.md"),)
    unknown = host({"a": {"port": PORT, "klippy_mcu": None}, "b": {"port": PORT, "klippy_mcu": None}})
    assert len(unknown.boards) == 2


def test_unique_id_is_read_in_every_usual_spelling() -> None:
    assert host({"a": {"port": PORT, "uid": "CD-AB-34-12"}}).boards[0].uid == "cdab3412"


def test_backup_command_is_the_groups_or_the_boards_and_no_shells() -> None:
    found = host(
        {
            "a": {"port": PORT},
            "b": {"port": PORT, "klippy_mcu": "b", "backup_command": "other 'two words' $HOME", "backup_seconds": 5.0},
            "c": {"port": PORT, "klippy_mcu": "c", "backup_command": ""},
        },
        backup_command="/usr/local/bin/save --all",
    )
    a, b, c = found.boards
    assert (a.backup_words, a.backup_seconds) == (["/usr/local/bin/save", "--all"], 120.0)
    assert (b.backup_words, b.backup_seconds) == (["other", "two words", "$HOME"], 5.0) and c.backup_words == []


def test_retention_has_the_pins_of_the_hosts_boards() -> None:
    boards = {"a": {"port": PORT}, "b": {"port": PORT, "klippy_mcu": "b", "firmware_version": "sha256:12345678"}}
    assert host(boards).retention == Retention(5, 365.0, ["sha256:12345678", "v1"])
    assert host(boards, backup_keep=2, backup_days=30).retention == Retention(2, 30.0, ["sha256:12345678", "v1"])
    assert host({"a": {"port": PORT, "firmware_version": 0.12}}).retention.pins == ["v1"]
    # One that is described wrongly is not flashed; what it is pinned to stays.
    wrong = {"port": PORT, "klippy_mcu": "b", "chip": "none", "firmware_version": "v3"}
    assert host({"a": {"port": PORT}, "b": wrong}).retention.pins == ["v1", "v3"]
    back = {"rollback_version": {"klipper-bmcu-c": "v0.9.0"}}
    assert host({"a": {"port": PORT, "firmware_version": "v1"}}, **back).retention.pins == ["v0.9.0", "v1"]


@pytest.mark.parametrize(
    "data",
    [
        *({"backup_keep": wrong} for wrong in (0, -1, "3", 2.5, True)),
        *({"backup_days": wrong} for wrong in (0, -1, "3", float("inf"), float("nan"), True)),
    ],
)
def test_retention_that_would_keep_nothing_or_means_nothing_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(BoardDataError, match=f"{next(iter(data))}: expected a number of"):
        host({"a": {"port": PORT}}, **data)


@pytest.mark.parametrize("data", [{"policy": "maybe"}, {"attended": "perhaps"}, {"boards": ["a"]}])
def test_host_whose_own_data_is_beyond_use_says_so(data: dict[str, Any]) -> None:
    with pytest.raises(BoardDataError, match=next(iter(data))):
        host(**{"boards": {}, **data})


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("False", False), (True, True)])
def test_flags_from_the_command_line_are_understood(text: object, flag: bool) -> None:
    assert host({}, attended=text).attended is flag


def test_durations() -> None:
    assert [read_duration(value) for value in (90, "90s", "1.5m", "2h")] == [90, 90, 90, 7200]
    for wrong in ("2 days", "-1s", -1, float("inf"), True, None):
        with pytest.raises(BoardDataError, match="duration"):
            read_duration(wrong)


def test_a_unique_id_that_nothing_can_be_compared_with_is_refused() -> None:
    fields = {"port": "/dev/serial/by-path/a", "chip": "atmega328p", "programmer": "stk500", "firmware": "k"}
    read = read_host("printer", {"boards": {"old": {**fields, "uid": "aa"}}})
    ((name, problem),) = read.errors
    assert name == "old" and "stk500 learns no unique id" in problem
    assert not read_host("printer", {"boards": {"old": fields}}).errors
