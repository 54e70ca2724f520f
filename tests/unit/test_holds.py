"""Holds on a host: durable, safe when damaged, and known to the agent that a stale plan asks."""

import dataclasses
from pathlib import Path

import pytest
from transaction_host import NEW, FakeHost, image, make_host

from fleetflash.agent import disk, requests
from fleetflash.agent.holds import Holds
from fleetflash.agent.record import COMMITTED, REFUSED
from fleetflash.agent.schema import Hold, SchemaError, to_json
from fleetflash.agent.store import Store

HOLD = Hold("a" * 64, "v1", "pin", "t-0", "you@there")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return make_host(tmp_path, monkeypatch, "a", "b")


def test_rollback_holds_its_boards_and_those_that_were_there_once_it_is_committed(host: FakeHost) -> None:
    assert host.run(host.rollback("c")) == COMMITTED
    found = Holds(host.store).all()
    assert {name: hold.image_sha256 for name, hold in found.items()} == {
        name: image(NEW, name).sha256 for name in ("a", "b", "c")
    }
    assert all(hold.since > 1.7e9 and hold.controller == "me@here" for hold in found.values())


def test_flash_holds_nothing(host: FakeHost) -> None:
    assert host.run(host.transaction()) == COMMITTED
    assert Holds(host.store).all() == {}


def test_transaction_of_a_plan_that_did_not_see_the_hold_is_refused_before_anything_stops(host: FakeHost) -> None:
    Holds(host.store).put("b", HOLD)
    assert host.run(host.transaction()) == REFUSED
    assert "b: held at v1 by a rollback of you@there since the plan was made" in host.outcome()["detail"]
    assert ("stop", "") not in host.steps and host.active


def test_flash_to_what_is_held_is_no_contradiction_and_a_rollback_knows_what_it_replaces(host: FakeHost) -> None:
    Holds(host.store).put("b", dataclasses.replace(HOLD, image_sha256=image(NEW, "b").sha256))
    assert host.run(host.transaction()) == COMMITTED
    Holds(host.store).put("a", HOLD)
    assert Holds(host.store).contradicts(host.rollback()) == ""
    assert "a: held" in Holds(host.store).contradicts(host.transaction())


def test_hold_that_is_put_again_keeps_its_beginning(tmp_path: Path) -> None:
    holds = Holds(Store(tmp_path))
    holds.put("a", HOLD)
    first = holds.of("a")
    holds.put("a", dataclasses.replace(HOLD, transaction="t-9"))
    assert holds.of("a") == first
    holds.put("a", dataclasses.replace(HOLD, target="previous"))
    assert holds.of("a") != first


def test_damaged_hold_holds_all_the_same(tmp_path: Path) -> None:
    holds = Holds(Store(tmp_path))
    disk.write_file(tmp_path / "holds/a.json", b"{torn")
    found = holds.of("a")
    assert found is not None and (found.image_sha256, found.version) == ("", "unknown")
    assert holds.of("b") is None


def test_holds_are_put_and_lifted_on_request(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert requests.hold({"holds": {"a": to_json(HOLD), "b": to_json(HOLD)}}, store) == {"type": "held"}
    assert set(Holds(store).all()) == {"a", "b"}
    assert set(requests.lift({"boards": ["a", "z"]}, store)["holds"]) == {"a"}
    assert set(requests.lift({"boards": []}, store)["holds"]) == {"b"}
    assert Holds(store).all() == {}


@pytest.mark.parametrize("name", ["../boards/a", ".hidden", ""])
def test_hold_can_not_be_put_anywhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(SchemaError, match="no name of a board"):
        requests.hold({"holds": {name: to_json(HOLD)}}, Store(tmp_path))
