"""``fleetflash hold``: what is held, for people and for scripts, and letting it go."""

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from fleetflash import cli
from fleetflash.agent.schema import Hold
from fleetflash.link.errors import LinkError

HOLD = Hold("a" * 64, "v0.11.0", "previous", "20261121T2200-abc", "me@here", 1795300000.0)


class FleetError(Exception):
    pass


class Fleet:
    """Stands for the hosts; ``found`` and ``problems`` are what they answer, ``failure`` what is raised instead."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Hold]] = {"printer-1": {"host code": HOLD, "bmcu": HOLD}, "printer-2": {}}
        self.problems: list[str] = []
        self.failure: Exception | None = None
        self.asked: tuple[object, ...] = ()

    def list_holds(self, *asked: object) -> tuple[dict[str, dict[str, Hold]], list[str]]:
        self.asked = asked
        if self.failure:
            raise self.failure
        return self.found, self.problems

    def clear_holds(self, inventory: str, host: str, board: str | None) -> dict[str, Hold]:
        if self.failure:
            raise self.failure
        return {name: hold for name, hold in self.found[host].items() if board in (None, name)}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Without pyinfra, which would patch the standard library of all tests."""
    fleet, pyinfra_side, holds = Fleet(), ModuleType("fleet"), ModuleType("fleet_holds")
    vars(pyinfra_side).update(FleetError=FleetError)
    vars(holds).update(list_holds=fleet.list_holds, clear_holds=fleet.clear_holds)
    monkeypatch.setitem(sys.modules, "fleetflash.cli.fleet", pyinfra_side)
    monkeypatch.setitem(sys.modules, "fleetflash.cli.fleet_holds", holds)
    return fleet


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["hold", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_says_what_is_held_where_since_when_and_by_whom(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "inventory.py", "--limit", "printer-1")
    assert code == 0 and fleet.asked == ("inventory.py", ["printer-1"])
    line = next(line for line in out.splitlines() if "bmcu" in line)
    for word in ("printer-1", "v0.11.0", "previous", "me@here", "2026-11-", "UTC", HOLD.transaction):
        assert word in line
    code, out, _ = run(capsys, "list", "inventory.py", "--json")
    found: list[dict[str, Any]] = json.loads(out)
    assert [(hold["host"], hold["board"], hold["version"]) for hold in found] == [
        ("printer-1", "bmcu", "v0.11.0"),
        ("printer-1", "host code", "v0.11.0"),
    ]


def test_host_that_can_not_be_asked_is_told_beside_the_others(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.problems = ["printer-3: SSH did not connect"]
    code, out, err = run(capsys, "list", "inventory.py")
    assert code == 1 and "bmcu" in out and "printer-3: SSH did not connect" in err


def test_nothing_held_is_said(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.found = {"printer-1": {}}
    assert run(capsys, "list", "inventory.py")[:2] == (0, "no board is held\n")
    assert run(capsys, "clear", "inventory.py", "printer-1", "bmcu")[:2] == (0, "printer-1/bmcu: was not held\n")


def test_clear_lets_one_board_go_or_all(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "clear", "inventory.py", "printer-1", "bmcu")
    assert out == "printer-1/bmcu: let go, was held at v0.11.0\n"
    _, out, _ = run(capsys, "clear", "inventory.py", "printer-1")
    assert out.count("let go") == 2 and "printer-1/host code" in out


@pytest.mark.parametrize(("failure", "code"), [(FleetError("no such inventory"), 2), (LinkError("no route"), 1)])
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    failure: Exception, code: int, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.failure = failure
    found, _, err = run(capsys, "clear", "inventory.py", "printer-1")
    assert (found, err) == (code, f"fleetflash hold: {failure}\n")
