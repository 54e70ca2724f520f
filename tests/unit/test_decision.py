"""One look at a host, and what follows from its data and from what was typed for this run alone."""

import dataclasses
from typing import Any

import pytest

from fleetflash.agent.schema import HOST_CODE, CheckoutFacts, Firmware, Image, Past, Snapshot
from fleetflash.boards import KlipperCode, KlipperHost
from fleetflash.facts import decision
from fleetflash.functional.version_api import VersionApiError
from fleetflash.plan import Action, WantedCode
from tests.unit.observed import CHIP, NEW, OLD, board, facts, firmware, hold, past, snapshot

BOARDS = {"bmcu": {"chip": CHIP, "port": "/dev/serial/by-path/bmcu", "firmware": "klipper", "wiring": ""}}


class Data(dict[str, Any]):
    def dict(self) -> dict[str, Any]:
        return dict(self)


class Host:
    """A pyinfra host as far as deciding goes; ``typed``: what came with ``--data``."""

    name, groups = "printer", ("klipper_hosts",)

    def __init__(self, typed: dict[str, Any], **data: Any) -> None:
        self.own = {"boards": BOARDS, "firmware_version": "v2", **data}
        self.data = Data({**self.own, **typed})
        self.typed = typed
        self.state = self.inventory = self

    def get_override_data(self) -> dict[str, Any]:
        return self.typed

    def get_host_data(self, name: str) -> dict[str, Any]:
        return {}

    def get_group_data(self, group: str) -> dict[str, Any]:
        return self.own

    def get_data(self) -> dict[str, Any]:
        return {}


class Store:
    def find(self) -> list[Any]:
        return [OLD, NEW]

    def resolve(self, name: str, version: object, chip: str) -> Any:
        return {"v1": OLD, "v2": NEW}[str(version)]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commits that looks at the host asked for."""
    asked: list[str] = []
    monkeypatch.setattr(decision, "Store", Store)
    monkeypatch.setattr(decision, "transport", lambda host: None)
    return asked


def test_a_gateway_that_the_host_can_not_ask_is_asked_through_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Firmware("unasked", error="only a reset would have it say what it runs")
    observed = snapshot(facts("gateway", firmware=silent), facts("bmcu", firmware=silent))
    boards = (board("gateway", chip="esp32", programmer="esptool", firmware="gateway"), board("bmcu"))
    desired = KlipperHost("printer", boards)
    monkeypatch.setattr(decision, "running_version", lambda host, board: f"v7 of {host}/{board.name}")
    asked = decision._asked(desired, observed).boards
    assert (asked["gateway"].firmware, asked["bmcu"].firmware) == (Firmware("api", "v7 of printer/gateway"), silent)

    def off(host: str, board: object) -> str:
        raise VersionApiError("http://10.0.0.7/ does not answer")

    monkeypatch.setattr(decision, "running_version", off)
    told = decision._asked(desired, observed).boards["gateway"].firmware
    assert (told.source, told.version) == ("unasked", "") and "10.0.0.7/ does not answer" in told.error
    monkeypatch.setattr(decision, "running_version", lambda host, board: "")
    assert decision._asked(desired, observed).boards["gateway"].firmware == silent


def seen(monkeypatch: pytest.MonkeyPatch, looks: list[str], observed: Snapshot) -> None:
    def look(transport: object, desired: object, commit: str = "") -> Snapshot:
        looks.append(commit)
        return observed

    monkeypatch.setattr(decision, "snapshot", look)


@pytest.mark.parametrize(("typed", "lifts"), [({}, ("bmcu",)), ({"firmware_version": "v1"}, ())])
def test_hold_ends_at_a_pin_of_the_inventory_and_at_none_that_was_typed(
    typed: dict[str, Any], lifts: tuple[str, ...], looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, looks, snapshot(holds={"bmcu": hold(OLD)}))
    found = decision.decide(Host(typed, **({} if typed else {"firmware_version": "v1"})))
    assert found.boards[0].action is Action.NONE and found.lifts == lifts
    assert looks == [""]


def test_rollback_takes_one_look(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    at_v2 = facts(firmware=firmware("v2"))
    seen(monkeypatch, looks, snapshot(at_v2, lineages={"bmcu": [past(NEW), past(OLD)]}))
    found = decision.decide_rollback(Host({"to": "previous"}))
    assert found.boards[0].wanted == OLD and found.holds["bmcu"].target == "previous" and looks == [""]


def test_typed_pin_of_a_rollback_is_that_of_every_board(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"bmcu": {**BOARDS["bmcu"], "firmware_version": "v2"}}
    seen(monkeypatch, looks, snapshot(facts(firmware=firmware("v2"))))
    found = decision.decide_rollback(Host({"firmware_version": "v1"}, boards=own))
    assert found.boards[0].wanted == OLD


@pytest.mark.parametrize("decide", [decision.decide, decision.decide_rollback])
def test_what_the_inventory_pins_is_kept_in_a_run_to_another_version(
    decide: Any, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, looks, snapshot(facts(firmware=firmware("v2"))))
    found = decide(Host({"firmware_version": "v1"}, rollback_version="v0"))
    assert found.transaction is not None and {"v0", "v1", "v2"} <= set(found.transaction.retention.pins)


def test_rollback_to_nothing_is_told_of_its_host(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, looks, snapshot())
    (row,) = decision.decide_rollback(Host({})).boards
    assert row.action is Action.REFUSE and "nothing says where to go back to" in row.reason and looks == []


def test_flash_that_was_meant_to_go_back_does_not_go_forward(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, looks, snapshot())
    (row,) = decision.decide(Host({"to": "previous"})).boards
    assert row.action is Action.REFUSE and "to=previous is for deploys/rollback.py" in row.reason and looks == []


def test_host_code_goes_back_with_its_boards(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look says where to; the second one whether the host has that commit."""
    asked: list[KlipperCode] = []

    def wanted_code(code: KlipperCode, cache: str) -> WantedCode:
        asked.append(code)
        return WantedCode(code.repository, code.version, code.version)

    monkeypatch.setattr(decision, "wanted_code", wanted_code)
    monkeypatch.setattr(decision, "compared", lambda code, *_: dataclasses.replace(code, present=True))
    observed = snapshot(
        facts(firmware=firmware("v2")),
        lineages={
            "bmcu": [past(NEW), past(OLD)],
            HOST_CODE: [Past(Image("", commit, 0, commit), "t0") for commit in ("bbb", "aaa")],
        },
        checkout=CheckoutFacts("/k", "pi", commit="bbb", version="bbb", running="bbb"),
    )
    seen(monkeypatch, looks, observed)
    found = decision.decide_rollback(Host({"to": "previous"}, policy="exact", klipper_version="bbb"))
    assert [code.version for code in asked] == ["aaa"] and looks == ["", "aaa"]
    assert found.transaction is not None and found.transaction.host_code is not None
    assert (found.transaction.host_code.wanted, set(found.holds)) == ("aaa", {HOST_CODE, "bmcu"})
    typed = {"to": "previous", "klipper_version": "ccc"}
    decision.decide_rollback(Host(typed, policy="exact", klipper={"ref": "bbb"}))
    assert asked[-1].version == "ccc"
