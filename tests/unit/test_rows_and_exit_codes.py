"""What a run comes to is told board by board, never better than it is, and in an exit code that a script can trust."""

import dataclasses
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fleetflash.boards import KlipperHost
from fleetflash.firmware.artifact import Artifact
from fleetflash.plan import Action, Catalogue, HostPlan, Identity, offline, plan_backup, unusable
from fleetflash.report import run as report
from fleetflash.report.rows import outcome_rows, plan_rows
from fleetflash.report.run import DEFERRED, FAILED, OK, REFUSED, RunReport, exit_code
from fleetflash.report.table import Row
from tests.unit.observed import NEW, OLD, board, facts, firmware, plan, service, snapshot


def two_boards(**host: Any) -> HostPlan:
    """One board to flash, and one that runs its firmware already."""
    seen = snapshot(facts("a"), facts("b", "/dev/ttyUSB1", firmware=firmware("v2")))
    return plan(seen, board("a"), board("b", klippy_mcu="b"), **host)


def ended(outcome: str, detail: str = "", **boards: Any) -> dict[str, Any]:
    """An agent's outcome; ``boards``: name → result, or (result, detail)."""
    told = {name: {"result": r, "detail": ""} if isinstance(r, str) else dict(zip(("result", "detail"), r, strict=True))
            for name, r in boards.items()}  # fmt: skip
    return {"outcome": outcome, "detail": detail, "boards": told, "downtime": 7.5}


def row(outcome: str, host: str = "h") -> Row:
    return Row(host, "b", "", "", "", "", "", "", None, None, outcome, "")


# Rows of a plan


def test_plan_tells_what_would_be_done_to_each_board_and_what_it_takes() -> None:
    flash, current = plan_rows(two_boards())
    assert (flash.outcome, flash.running, flash.wanted, flash.way_back) == ("flash", "v1", "v2", "v1 (running)")
    assert flash.image == NEW.files[0].sha256[:12] and (flash.seconds or 0) > 0 and (flash.downtime or 0) > 6
    assert (current.outcome, current.seconds, current.downtime) == ("none", None, None)


def test_way_back_that_was_waived_is_told_as_such() -> None:
    waived = plan(snapshot(facts(firmware=firmware("v0"))), board(accept_no_way_back=True), artifacts=(NEW,))
    assert plan_rows(waived)[0].way_back == "none (accepted)"


@pytest.mark.parametrize("host_plan", [offline("h", "no route"), unusable("h", "no route")])
def test_host_that_has_no_boards_to_tell_of_is_a_row_with_its_reason(host_plan: HostPlan) -> None:
    (only,) = plan_rows(host_plan)
    assert (only.host, only.board, only.running, only.wanted, only.detail) == ("h", "-", "", "", "no route")


# Backups


def test_backup_tells_of_each_board_whether_it_was_read_or_what_is_known_of_it() -> None:
    stm32 = {"chip": "stm32f103xb", "programmer": "stm32_rom"}
    boards = (board("a", **stm32), board("b", klippy_mcu="b", **stm32), board("c", klippy_mcu="c"))
    seen = snapshot(
        facts("a", "/dev/a", firmware=firmware(MCU="stm32f103xe")),
        facts("b", "/dev/b", firmware=firmware(MCU="stm32f103xe")),
        facts("c", "/dev/c"),
    )
    for artifacts, known in (((OLD,), "known-good only"), ((), "no backup")):
        catalogue = Catalogue(artifacts, no_artifact)
        found = plan_backup(KlipperHost("printer", boards), seen, catalogue, Identity("t1", "me@here"))
        planned = plan_rows(found)
        assert [row.outcome for row in planned] == ["back up", "back up", known] and exit_code(planned) == OK
        assert (planned[0].seconds or 0) > 0 and planned[2].seconds is None
        protected = ended("committed", a="backed-up", b=("unreadable", "the chip is read-protected"))
        rows = outcome_rows(found, protected)
        assert [row.outcome for row in rows] == ["backed-up", "no backup", known] and exit_code(rows) == OK
        assert [row.running for row in rows] == ["v1", "v1", "v1"] and rows[1].detail == "the chip is read-protected"
        assert (
            exit_code(outcome_rows(found, ended("failed", a="backed-up", b=("failed", "no answer")))) == report.FAILED
        )
        assert exit_code(outcome_rows(found, ended("refused", "a print has begun"))) == REFUSED


def no_artifact(name: str, version: object, chip: str) -> Artifact:
    raise AssertionError("a backup needs no image")


# Rows of an outcome


@pytest.mark.parametrize(
    ("result", "running"),
    [("flashed", "v2"), ("restored", "v1"), ("failed", "v1"), ("needs-attention", "unknown")],
)
def test_board_is_told_with_what_it_runs_now(result: str, running: str) -> None:
    flashed, current = outcome_rows(two_boards(), ended("whatever", a=(result, "why")))
    assert (flashed.outcome, flashed.running, flashed.detail, flashed.downtime) == (result, running, "why", 7.5)
    assert (current.outcome, current.running) == ("current", "v2")


def test_refused_transaction_is_told_as_refused_although_its_host_lists_no_boards() -> None:
    """Nothing was touched: it must not be counted as a failure."""
    for outcome in (ended("refused", "a print has begun"), ended("refused", "a print has begun", a="untouched")):
        refused, _ = outcome_rows(two_boards(), outcome)
        assert (refused.outcome, refused.running, refused.detail) == ("refused", "v1", "a print has begun")


def test_board_that_was_not_reached_is_a_failure_with_the_transactions_reason() -> None:
    left, _ = outcome_rows(two_boards(), ended("restored", "b: verify failed", a="untouched"))
    assert (left.outcome, left.detail) == ("failed", "b: verify failed")


def test_unknown_outcome_is_a_failure_and_nobody_knows_what_runs() -> None:
    lost, current = outcome_rows(two_boards(), ended("unknown", "the link was lost; run again"))
    assert (lost.outcome, lost.running, lost.detail) == ("failed", "unknown", "the link was lost; run again")
    assert current.running == "v2"


def test_outcome_that_never_came_is_a_failure() -> None:
    assert outcome_rows(two_boards(), None)[0].outcome == "failed"


@pytest.mark.parametrize(
    ("host_plan", "word"),
    [
        (plan(snapshot(facts(device="", candidates=[]))), "refused"),
        (plan(snapshot(service=service(print_state="printing"))), "deferred"),
        (plan(None, board(entry="button")), "waiting"),
        (offline("h", "no route"), "offline"),
    ],
)
def test_board_that_was_not_to_be_flashed_keeps_its_reason(host_plan: HostPlan, word: str) -> None:
    (told,) = outcome_rows(host_plan, None)
    assert told.outcome == word and told.detail and told.seconds is None


# Exit codes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], OK),
        (["flashed", "current", "none", "flash"], OK),
        (["flashed", "deferred"], DEFERRED),
        (["waiting"], DEFERRED),
        (["defer"], DEFERRED),
        (["deferred", "refused"], REFUSED),
        (["refuse", "flash"], REFUSED),
        (["offline", "waiting"], REFUSED),
        (["failed", "refused", "deferred", "flashed"], FAILED),
        (["restored"], FAILED),
        (["needs-attention", "offline"], FAILED),
    ],
)
def test_worst_thing_that_happened_decides_the_exit_code(words: list[str], code: int) -> None:
    assert exit_code([row(word) for word in words]) == code
    assert exit_code([row(word) for word in reversed(words)]) == code


def test_codes_are_those_of_the_documentation() -> None:
    assert (OK, FAILED, REFUSED, DEFERRED) == (0, 1, 3, 4)


def test_every_result_of_a_board_has_a_code_of_its_own_or_is_success() -> None:
    """A new word must not pass for success unnoticed."""
    success = {"flashed", "current", "flash", "none", "back up", "unreadable"}
    words = {action.value for action in Action} | {"restored", "failed", "needs-attention", "refused", "deferred"}
    assert {word for word in words if exit_code([row(word)]) == OK} == success & words


# A whole run


@dataclasses.dataclass(frozen=True)
class Host:
    name: str


class State:
    """As much of pyinfra's state as a report looks at."""

    def __init__(self, *names: str, limit: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> None:
        self.inventory = [Host(name) for name in names]
        self.failed_hosts = {Host(name) for name in failed}
        self._limit = limit

    def is_host_in_limit(self, host: Host) -> bool:
        return not self._limit or host.name in self._limit


class Exited(Exception):
    """``os._exit`` was called."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(report.os, "_exit", leave)
    yield codes


def named(name: str, host_plan: HostPlan) -> HostPlan:
    return dataclasses.replace(host_plan, host=name)


def finish(run: RunReport) -> None:
    try:
        run.finish()
    except Exited:
        pass


def test_every_host_in_scope_is_in_the_table_and_one_that_was_never_reached_is_offline() -> None:
    run = RunReport(State("one", "two", "three", limit=("one", "three")))
    run.add_plan(named("one", two_boards()))
    assert [(r.host, r.outcome) for r in run.rows()] == [("one", "flash"), ("one", "none"), ("three", "offline")]


def test_dry_run_prints_the_plan_and_leaves_the_exit_code_to_pyinfra(
    exits: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunReport(State("one", "two"))
    run.add_plan(named("one", two_boards()))
    finish(run)
    assert exits == []
    assert "ACTION" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "failed", "codes"),
    [
        (ended("committed", a="flashed"), (), []),
        (ended("restored", a="restored"), ("one",), [FAILED]),
        (ended("refused", "print"), ("one",), [REFUSED]),
        (ended("unknown", "lost"), ("one",), [FAILED]),
        # pyinfra counts a host as failed for a reason of its own, such as another operation.
        (ended("committed", a="flashed"), ("one",), [FAILED]),
    ],
)
def test_run_ends_with_the_code_of_its_table_or_with_failure_where_pyinfra_knows_more(
    exits: list[int], outcome: dict[str, Any], failed: tuple[str, ...], codes: list[int]
) -> None:
    run = RunReport(State("one", failed=failed))
    run.add_outcome(named("one", two_boards()), outcome)
    finish(run)
    assert exits == codes


def test_refused_host_does_not_hide_one_that_failed(exits: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    run = RunReport(State("one", "two", failed=("one", "two")))
    run.add_outcome(named("one", two_boards()), ended("refused", "a print has begun"))
    run.add_outcome(named("two", two_boards()), ended("restored", a=("restored", "verify failed")))
    finish(run)
    assert exits == [FAILED]
    told = capsys.readouterr().err
    assert "one/a: refused: a print has begun" in told and "two/a: restored: verify failed" in told


def test_interrupted_run_says_what_goes_on_without_it_and_what_was_not_begun(
    exits: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunReport(State("one", "two", "three", "four"))
    here = plan(None, board(placement="controller"))
    for name, host_plan in (("one", two_boards()), ("two", here), ("three", two_boards()), ("four", two_boards())):
        run.add_plan(named(name, host_plan))
    run.add_transaction(named("one", two_boards()))
    run.add_transaction(named("two", here))
    run.add_outcome(named("four", two_boards()), ended("committed", a="flashed"))
    with pytest.raises(Exited):
        run.interrupt(signal.SIGINT, None)
    assert exits == [130]
    told = capsys.readouterr().err.splitlines()
    assert "  one: transaction t1 goes on without it" in told
    assert "  two: transaction t1 goes on without it, but bmcu may be restored: it was written from here" in told
    assert "  not begun: three" in told


def test_results_of_some_hosts_are_those_of_their_boards() -> None:
    run = RunReport(State("one", "two"))
    run.add_outcome(named("one", two_boards()), ended("committed", a="flashed"))
    run.add_outcome(named("two", two_boards()), ended("restored", a="restored"))
    assert run.results(["one"]) == {"one": ["flashed", "current"]}
