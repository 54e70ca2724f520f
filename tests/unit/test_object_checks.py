"""Klippy's objects decide with the firmware's own word: sensors, relays and an AMS answer, or all goes back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transaction_host import NEW, OLD, Death, FakeHost, make_host

from fleetflash.agent import klippy
from fleetflash.agent.object_checks import problem
from fleetflash.agent.patience import settle_seconds
from fleetflash.agent.schema import ObjectCheck, Transaction

WARM = ObjectCheck("temperature_sensor ams", "temperature", minimum=5.0, maximum=60.0)
RELAY = ObjectCheck("output_pin relay", "value", equals=0)
GOOD = {"temperature_sensor ams": {"temperature": 23.4}, "output_pin relay": {"value": 0.0}}
BROKEN = {**GOOD, "temperature_sensor ams": {"temperature": 0.0}}
MakeHost = Callable[..., FakeHost]


@pytest.fixture
def host_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    def make(*names: str) -> FakeHost:
        host = make_host(tmp_path, monkeypatch, *names)
        host.objects = dict(GOOD)
        return host

    return make


def checked(whole: Transaction, seconds: float = 0.05) -> Transaction:
    """The transaction with checks of the printer."""
    return replace(whole, checks=[WARM, RELAY], checks_seconds=seconds)


def of_board(whole: Transaction, name: str) -> Transaction:
    boards = [replace(b, checks=[WARM]) if b.name == name else b for b in whole.boards]
    return replace(whole, boards=boards, checks_seconds=0.05)


def depends_on(host: FakeHost, *boards: str) -> None:
    """The sensor is read by the old firmware of these boards, and by the new one not."""

    def query(path: str, objects: list[str], timeout: float = 5.0) -> dict[str, Any]:
        host.tick("query")
        found = BROKEN if any(host.boards[name].version == NEW for name in boards) else GOOD
        return {name: found[name] for name in objects}

    klippy.query = query


def test_flash_after_which_all_objects_answer_is_committed(host_with: MakeHost) -> None:
    host = host_with("a", "b")
    assert host.run(checked(host.transaction())) == "committed"
    assert host.outcome()["detail"] == "" and host.journal("ready", "objects-held", "committed") == [
        *("ready", "objects-held", "committed")
    ]


@pytest.mark.parametrize("policy", ["exact", "compatible"])
def test_flash_after_which_an_object_is_wrong_is_taken_back(host_with: MakeHost, policy: str) -> None:
    host = host_with("a", "b")
    depends_on(host, "a")
    assert host.run(checked(host.transaction(policy))) == "restored"
    assert host.versions() == {"a": OLD, "b": OLD} and host.active
    said = "object temperature_sensor ams: temperature is 0.0, expected 5 to 60"
    assert host.outcome()["boards"]["a"]["detail"] == said and "after that" not in host.outcome()["detail"]
    assert host.journal("objects-failed", "objects-held") == ["objects-failed", "objects-held"]


def test_check_of_a_board_takes_that_board_back_and_no_other(host_with: MakeHost) -> None:
    host = host_with("a", "b")
    depends_on(host, "a")
    assert host.run(of_board(host.transaction("compatible"), "a")) == "restored"
    assert host.versions() == {"a": OLD, "b": NEW} and host.results() == {"a": "restored", "b": "flashed"}


def test_object_that_is_late_is_waited_for(host_with: MakeHost) -> None:
    host = host_with("a")
    answers = [BROKEN, BROKEN, GOOD]
    klippy.query = lambda path, objects, timeout=5.0: answers.pop(0)
    assert host.run(checked(host.transaction(), seconds=30.0)) == "committed" and answers == []


def test_object_that_is_wrong_even_after_the_way_back_is_told_and_latches_nothing(host_with: MakeHost) -> None:
    host = host_with("a")
    host.objects = dict(BROKEN)
    assert host.run(checked(host.transaction())) == "restored"
    assert host.versions() == {"a": OLD} and host.store.attention() == {}
    assert "after that, object temperature_sensor ams: temperature is 0.0" in host.outcome()["detail"]


def test_rollback_after_which_an_object_is_wrong_stands_and_is_no_success(host_with: MakeHost) -> None:
    host = host_with("a")
    host.objects = dict(BROKEN)
    assert host.run(checked(host.rollback())) == "failed"
    assert host.results() == {"a": "flashed"} and host.versions() == {"a": NEW} and host.journal("restoring") == []
    detail = host.outcome()["detail"]
    assert "temperature is 0.0" in detail and "this is a rollback, so nothing is taken back" in detail


def test_print_that_has_begun_meanwhile_is_not_stopped(host_with: MakeHost) -> None:
    host = host_with("a")

    def query(path: str, objects: list[str], timeout: float = 5.0) -> dict[str, Any]:
        host.print_state = "printing"
        return BROKEN

    klippy.query = query
    assert host.run(checked(host.transaction())) == "failed"
    assert host.active and host.versions() == {"a": NEW} and [s for s, _ in host.steps].count("stop") == 1
    assert "a print has begun meanwhile, so nothing is taken back" in host.outcome()["detail"]


def test_klippy_that_stops_answering_is_no_success(host_with: MakeHost) -> None:
    host = host_with("a")
    query, calls = klippy.query, []

    def silent(path: str, objects: list[str], timeout: float = 5.0) -> dict[str, Any]:
        calls.append(objects)
        if host.boards["a"].version == NEW:
            raise klippy.KlippyError(f"{path}: no answer in time")
        return query(path, objects)

    klippy.query = silent
    assert host.run(checked(host.transaction())) == "restored" and host.versions() == {"a": OLD}
    assert "no answer in time" in host.outcome()["detail"] and calls[0] == sorted(GOOD)


def test_nobody_is_asked_where_klipper_was_not_ready_or_boards_are_only_read(host_with: MakeHost) -> None:
    host = host_with("a")
    host.ready = False
    assert host.run(checked(host.transaction())) == "committed" and ("query", "") not in host.steps


@pytest.mark.parametrize(("objects", "version"), [(GOOD, NEW), (BROKEN, OLD)], ids=["good", "broken"])
def test_death_before_the_commit_is_settled_by_what_the_objects_say(
    host_with: MakeHost, objects: dict[str, Any], version: str
) -> None:
    host = host_with("a")
    host.kill_on = ("query", "")
    whole = checked(host.transaction())
    with pytest.raises(Death):
        host.run(whole)
    host.objects = dict(objects)
    host.after_death(whole)
    assert host.versions() == {"a": version} and host.active


def test_settling_has_the_time_that_the_objects_take(host_with: MakeHost) -> None:
    host = host_with("a")
    bare = replace(host.transaction(), restore_seconds=100.0, checks_seconds=90.0)
    assert settle_seconds(replace(bare, checks=[WARM])) == settle_seconds(bare) + 90.0
    assert settle_seconds(of_board(bare, "a")) == settle_seconds(bare) + 0.05


@pytest.mark.parametrize(
    ("check", "value", "words"),
    [
        (WARM, {"temperature": 5}, ""),
        (WARM, {"temperature": 60.0}, ""),
        (WARM, {"temperature": 60.1}, "temperature is 60.1, expected 5 to 60"),
        (WARM, {"temperature": True}, "temperature is True, expected 5 to 60"),
        (WARM, {"temperature": "warm"}, "temperature is 'warm', expected"),
        (WARM, {"temperature": None}, "temperature is None, expected"),
        (WARM, {"humidity": 3}, "it has no field 'temperature'; correct it in checks"),
        (WARM, {}, "klippy knows no such object"),
        (ObjectCheck("o", "n", minimum=1.5), {"n": 1}, "n is 1, expected 1.5 at least"),
        (ObjectCheck("o", "n", maximum=1.5), {"n": 2}, "n is 2, expected 1.5 at most"),
        (ObjectCheck("o", "n", maximum=1.5), {"n": -1}, ""),
        (ObjectCheck("o", "n", equals=0), {"n": 0.0}, ""),
        (ObjectCheck("o", "n", equals=0), {"n": False}, "n is False, expected 0"),
        (ObjectCheck("o", "n", equals=True), {"n": 1}, "n is 1, expected True"),
        (ObjectCheck("o", "n", equals="idle"), {"n": "idle"}, ""),
        (ObjectCheck("o", "n", equals=None), {"n": None}, ""),
        (ObjectCheck("o", "n", equals=None), {"n": 0}, "n is 0, expected None"),
        (ObjectCheck("o", "stats.0.freq", minimum=1.0), {"stats": [{"freq": 2}]}, ""),
        (ObjectCheck("o", "stats.1.freq", minimum=1.0), {"stats": [{"freq": 2}]}, "it has no field 'stats.1.freq'"),
    ],
)
def test_each_answer_is_compared_with_what_is_expected(check: ObjectCheck, value: dict[str, Any], words: str) -> None:
    found = problem(check, {check.object: value})
    assert found == "" if not words else found.startswith(f"object {check.object}: ") and words in found, found
    assert "\n" not in found
