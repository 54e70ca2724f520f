"""A board that a rollback holds stays where it is, until the inventory pins the same or somebody lets it go."""

import dataclasses

import pytest

from fleetflash.agent.schema import HOST_CODE, CheckoutFacts, Snapshot
from fleetflash.boards import KlipperHost
from fleetflash.plan import Action, BoardPlan, Catalogue, HostPlan, Identity, WantedCode, plan_host
from fleetflash.plan.rollback import PIN, Rollback
from fleetflash.report.rows import outcome_rows, plan_rows
from fleetflash.report.run import DEFERRED, exit_code
from tests.unit.observed import NEW, OLD, board, facts, firmware, hold, plan, snapshot

HELD = snapshot(holds={"bmcu": hold(OLD)})


def only(host_plan: HostPlan) -> BoardPlan:
    (found,) = host_plan.boards
    return found


def two(**fields: object) -> Snapshot:
    return snapshot(facts("a"), facts("b", "/dev/ttyUSB1"), **fields)


def test_held_board_is_not_moved_and_the_plan_says_what_to_do() -> None:
    found = plan(HELD)
    assert only(found).action is Action.HOLD and (found.transaction, found.lifts) == (None, ())
    for word in ("held at v1", "you@there", "to v2", "fleetflash hold clear INVENTORY printer bmcu"):
        assert word in only(found).reason
    (row,) = plan_rows(found)
    assert (row.outcome, exit_code([row])) == ("hold", DEFERRED)
    (row,) = outcome_rows(found, None)
    assert (row.outcome, exit_code([row])) == ("held", DEFERRED)


def test_board_that_is_held_at_a_version_which_nobody_knows_is_not_told_to_pin_it() -> None:
    found = only(plan(snapshot(holds={"bmcu": dataclasses.replace(hold(OLD), version="unknown")})))
    assert "held at what it ran before since a rollback" in found.reason
    assert "pin" not in found.reason and "to v2; let it go: fleetflash hold clear" in found.reason


def test_pin_that_says_the_same_ends_the_hold() -> None:
    found = plan(HELD, board(firmware_version="v1"))
    assert only(found).action is Action.NONE and found.lifts == ("bmcu",)
    assert only(found).reason == "held at v1 since a rollback"


def test_backups_of_what_a_board_is_held_at_are_kept() -> None:
    other = facts("b", "/dev/ttyUSB1")
    found = plan(snapshot(facts("a"), other, holds={"b": hold(OLD)}), board("a"), board("b", klippy_mcu="b"))
    assert found.transaction is not None
    assert found.transaction.retention.pins == [f"sha256:{OLD.image_sha256}", "v1"]
    back = plan(snapshot(facts(firmware=firmware("v2"))), rollback=Rollback(PIN, "v1"))
    assert back.transaction is not None and back.transaction.retention.pins == [f"sha256:{OLD.image_sha256}", "v1"]
    damaged = dataclasses.replace(hold(OLD), image_sha256="", version="unknown")
    found = plan(snapshot(facts("a"), other, holds={"b": damaged}), board("a"), board("b", klippy_mcu="b"))
    assert found.transaction is not None and found.transaction.retention.pins == []


def test_pin_of_one_run_ends_no_hold() -> None:
    assert plan(HELD, board(firmware_version="v1"), lifts=False).lifts == ()


def test_held_board_that_runs_something_else_comes_back_and_is_let_go() -> None:
    seen = snapshot(facts(firmware=firmware("v2")), holds={"bmcu": hold(OLD)})
    found = plan(seen, board(firmware_version="v1"))
    assert only(found).action is Action.FLASH and found.lifts == ("bmcu",)


def test_hold_that_can_not_be_read_holds_all_the_same() -> None:
    damaged = dataclasses.replace(hold(OLD), image_sha256="", version="unknown")
    assert only(plan(snapshot(holds={"bmcu": damaged}))).action is Action.HOLD


def test_rollback_replaces_a_hold() -> None:
    seen = snapshot(facts(firmware=firmware("v2")), holds={"bmcu": hold(NEW)})
    found = plan(seen, rollback=Rollback(PIN, "v1"))
    assert only(found).action is Action.FLASH and found.holds["bmcu"].version == "v1"


def test_hold_of_one_board_keeps_its_neighbours_with_policy_exact_only() -> None:
    boards = (board("a"), board("b", klippy_mcu="b"))
    exact = plan(two(holds={"b": hold(OLD)}), *boards, policy="exact")
    assert [b.action for b in exact.boards] == [Action.HOLD, Action.HOLD] and exact.transaction is None
    assert exact.boards[0].reason == "policy exact: its neighbour b is held"
    compatible = plan(two(holds={"b": hold(OLD)}), *boards)
    assert [b.action for b in compatible.boards] == [Action.FLASH, Action.HOLD]


@pytest.mark.parametrize(("commit", "action"), [("aaa", Action.HOLD), ("bbb", Action.NONE)])
def test_host_code_is_held_at_its_commit(commit: str, action: Action) -> None:
    """``commit``: where it is held. It is at ``bbb`` and its pin leads to ``bbb``, or from ``aaa`` there."""
    at = CheckoutFacts("/k", "pi", commit=commit, version=commit, running=commit)
    held = dataclasses.replace(hold(OLD), image_sha256=commit, version=commit)
    seen = snapshot(facts(firmware=firmware("v2")), checkout=at, holds={HOST_CODE: held})
    desired = KlipperHost("printer", (board(),), policy="exact")
    found = plan_host(
        *(desired, seen, Catalogue((OLD, NEW), lambda *_: NEW), Identity("t1", "me@here")),
        code=WantedCode("repository", "bbb", "bbb"),
    )
    assert found.boards[0].action is action and found.transaction is None
    assert found.lifts == ((HOST_CODE,) if commit == "bbb" else ())
