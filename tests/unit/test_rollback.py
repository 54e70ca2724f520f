"""Where a rollback leads, board by board, and what it leaves behind."""

import dataclasses
from typing import Any

import pytest

from fleetflash.agent.schema import HOST_CODE, CheckoutFacts, Firmware, Image, LedgerEntry, Past
from fleetflash.firmware.artifact import Artifact
from fleetflash.plan import Action, BoardPlan, HostPlan
from fleetflash.plan.rollback import (
    FACTORY,
    KNOWN_GOOD,
    PIN,
    PREVIOUS,
    Goal,
    Rollback,
    RollbackDataError,
    code_version,
    read_rollback,
)
from tests.unit.observed import (
    NEW,
    OLD,
    artifact,
    board,
    facts,
    firmware,
    gateway_artifact,
    hold,
    ledger,
    past,
    plan,
    service,
    snapshot,
)

V3 = artifact("v3")
#: A board that came from v1 over v2 to v3.
ON_V3 = {
    "observed": snapshot(
        facts(firmware=firmware("v3"), ledger=ledger(V3)), lineages={"bmcu": [past(V3), past(NEW), past(OLD)]}
    ),
    "artifacts": (OLD, NEW, V3),
}


def only(host_plan: HostPlan) -> BoardPlan:
    (found,) = host_plan.boards
    return found


def planned(to: str, **changes: Any) -> BoardPlan:
    """The plan of the one board for a rollback to a word."""
    return only(plan(**{**ON_V3, "rollback": Rollback(to), **changes}))


def on_v3(**fields: Any) -> Any:
    return dataclasses.replace(ON_V3["observed"], **fields)  # type: ignore[type-var]


# What is asked for


@pytest.mark.parametrize(
    ("data", "override", "expected"),
    [
        ({"to": "previous"}, {}, Rollback(PREVIOUS)),
        ({"to": "known-good", "firmware_version": "v2"}, {}, Rollback(KNOWN_GOOD)),
        ({}, {"firmware_version": "v1"}, Rollback(PIN, "v1")),
        ({"rollback_version": "v1"}, {}, Rollback(PIN, "v1")),
        ({"rollback_version": {"klipper": "v1"}}, {}, Rollback(PIN, pins={"klipper": "v1"})),
        ({"rollback_version": {"klipper": "v1"}}, {"firmware_version": "v0"}, Rollback(PIN, "v0")),
        ({"to": "factory"}, {"klipper_version": "v1"}, Rollback(FACTORY, klipper_version=True)),
    ],
)
def test_target_is_read_from_the_data(data: dict[str, Any], override: dict[str, Any], expected: Rollback) -> None:
    assert read_rollback({**data, **override}, override) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({}, ("nothing says where to go back to", "--data to=previous")),
        ({"to": "previous", "firmware_version": "v1"}, ("give one of them",)),
        ({"to": "yesterday"}, ("expected previous, known-good, factory", "'yesterday'")),
        ({"to": 0.12}, ("0.12", "--data firmware_version='\"v0.12.0\"'")),
        ({"firmware_version": 0.1}, ("read as the number 0.1", "--data firmware_version='\"0.1\"'")),
        ({"rollback_version": {"klipper": 1}}, ("read as the number 1",)),
    ],
)
def test_what_can_not_be_a_target_is_refused_in_one_line(override: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(RollbackDataError) as refused:
        read_rollback(override, override)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def test_pin_of_the_inventory_alone_is_no_target_of_a_rollback() -> None:
    """It is what deploys/flash.py goes to; a rollback there would hold boards against nothing."""
    with pytest.raises(RollbackDataError, match="nothing says where"):
        read_rollback({"firmware_version": "v2"}, {})


# Where it leads


def test_previous_is_what_ran_before() -> None:
    found = planned(PREVIOUS)
    assert (found.action, found.wanted, found.way_back) == (Action.FLASH, NEW, V3)


def test_previous_of_a_board_that_somebody_else_has_flashed_is_what_was_committed_last() -> None:
    seen = on_v3(boards={"bmcu": facts(firmware=firmware("v9"), ledger=ledger(V3))})
    assert planned(PREVIOUS, observed=seen, artifacts=(OLD, NEW, V3, artifact("v9"))).wanted == V3


def test_previous_of_a_board_that_says_nothing_goes_by_the_ledger() -> None:
    seen = on_v3(boards={"bmcu": facts(firmware=Firmware("none", error="silent"), ledger=ledger(V3))})
    assert planned(PREVIOUS, observed=seen).wanted == NEW


def test_previous_of_an_interrupted_write_is_what_was_committed_last() -> None:
    torn = dataclasses.replace(ledger(V3), image_sha256="unfinished")
    seen = on_v3(boards={"bmcu": facts(firmware=Firmware("none", error="silent"), ledger=torn)})
    assert planned(PREVIOUS, observed=seen).wanted == V3


def test_previous_that_nobody_knows_is_refused() -> None:
    found = planned(PREVIOUS, observed=on_v3(lineages={"bmcu": [past(V3)]}))
    assert found.action is Action.REFUSE and "nothing is known of what bmcu ran before v3" in found.reason


def test_asking_twice_goes_back_once() -> None:
    """After it, what runs has a previous one as well; the hold says that this was meant."""
    back = snapshot(
        facts(firmware=firmware("v2"), ledger=ledger(NEW)),
        lineages={"bmcu": [past(NEW), past(OLD)]},
        holds={"bmcu": hold(NEW, PREVIOUS)},
    )
    again = plan(back, artifacts=(OLD, NEW, V3), rollback=Rollback(PREVIOUS))
    assert only(again).action is Action.NONE and again.transaction is None and again.holds == {}
    further = plan(dataclasses.replace(back, holds={}), artifacts=(OLD, NEW, V3), rollback=Rollback(PREVIOUS))
    assert only(further).wanted == OLD


def test_known_good_is_the_newest_image_that_can_be_had_other_than_what_runs() -> None:
    assert planned(KNOWN_GOOD).wanted == NEW
    assert planned(KNOWN_GOOD, artifacts=(OLD, V3)).wanted == OLD


def test_known_good_of_a_board_without_a_past_is_the_factory_image() -> None:
    assert planned(KNOWN_GOOD, observed=on_v3(lineages={})).wanted == OLD
    nothing = planned(KNOWN_GOOD, observed=on_v3(lineages={}), artifacts=(NEW, V3))
    assert nothing.action is Action.REFUSE and "no factory image of klipper" in nothing.reason
    assert "--label factory" in nothing.reason


def test_factory_image_must_be_the_only_one() -> None:
    assert planned(FACTORY).wanted == OLD
    two = planned(FACTORY, artifacts=(OLD, NEW, V3, artifact("v0", labels=("factory",))))
    assert two.action is Action.REFUSE and f"sha256:{OLD.short_id} (v1)" in two.reason


def test_image_that_only_the_host_has_is_written_from_there() -> None:
    """A board's firmware that nobody has registered was read back before its first erase."""
    read = past(artifact("v0"), on_disk=True, artifact="")
    found = plan(on_v3(lineages={"bmcu": [past(V3), read]}), artifacts=(V3,), rollback=Rollback(PREVIOUS))
    assert found.transaction is not None and found.transaction.boards[0].wanted == read.image
    assert only(found).wanted is not None and only(found).action is Action.FLASH
    (left,) = found.holds.values()
    assert left.image_sha256 == read.image.sha256


def test_flash_of_a_gateway_that_was_read_back_is_written_from_its_host() -> None:
    """It is an archive of the whole flash, and says of itself neither version nor project."""
    new = gateway_artifact("v2")
    read = Past(Image("", "e" * 64, (4 << 20) + 512, "", klipper=False), on_disk=True)
    now = Past(Image(new.id, new.image_sha256, new.size, "v2", klipper=False), "t0")
    written = LedgerEntry(new.id, new.image_sha256, "v2", "t0", "esp32")
    unasked = Firmware("unasked", error="only a reset would have it say what it runs")
    gateway = board("gw", chip="esp32", programmer="esptool", firmware="gateway", klippy_mcu=None)
    seen = snapshot(facts("gw", firmware=unasked, ledger=written), lineages={"gw": [now, read]})
    found = plan(seen, gateway, artifacts=(new,), rollback=Rollback(PREVIOUS))
    assert found.transaction is not None and found.transaction.boards[0].wanted == read.image
    there = dataclasses.replace(written, image_sha256=read.image.sha256)
    back = snapshot(
        facts("gw", firmware=unasked, ledger=there), lineages={"gw": [read]}, holds={"gw": found.holds["gw"]}
    )
    assert only(plan(back, gateway, artifacts=(new,), rollback=Rollback(PREVIOUS))).action is Action.NONE


def test_image_that_nobody_has_is_named() -> None:
    found = planned(PREVIOUS, artifacts=(V3,))
    assert found.action is Action.REFUSE
    assert "the image of v2" in found.reason and NEW.image_sha256[:12] in found.reason and "bmcu" in found.reason


def test_boards_of_a_type_that_the_pins_do_not_name_stay() -> None:
    seen = snapshot(facts("a", firmware=firmware("v2")), facts("b", "/dev/ttyUSB1", firmware=firmware("v2")))
    boards = (board("a"), board("b", klippy_mcu="b", firmware="other"))
    found = plan(seen, *boards, rollback=Rollback(PIN, pins={"klipper": "v1"}))
    assert [b.action for b in found.boards] == [Action.FLASH, Action.NONE]
    assert "names no version for other" in found.boards[1].reason and set(found.holds) == {"a"}


@pytest.mark.parametrize("policy", ["exact", "compatible"])
def test_image_missing_for_one_board_refuses_its_host_and_names_it(policy: str) -> None:
    seen = snapshot(facts("a", firmware=firmware("v2")), facts("b", "/dev/ttyUSB1", firmware=firmware("v2")))
    boards = (board("a"), board("b", klippy_mcu="b", firmware="other"))
    found = plan(seen, *boards, rollback=Rollback(PIN, "v1"), policy=policy)
    assert {b.action for b in found.boards} == {Action.REFUSE} and found.transaction is None and found.holds == {}
    assert "no artifact other v1" in found.boards[1].reason
    assert found.boards[0].reason == "its neighbour b has no image to go back to"


# What it leaves


def test_rollback_leaves_a_hold_in_its_transaction_also_for_boards_that_were_there() -> None:
    seen = snapshot(facts("a", firmware=firmware("v2")), facts("b", "/dev/ttyUSB1", firmware=firmware("v1")))
    found = plan(seen, board("a"), board("b", klippy_mcu="b"), rollback=Rollback(PIN, "v1"))
    assert found.transaction is not None and [b.name for b in found.transaction.boards] == ["a"]
    assert found.transaction.holds == found.holds
    assert {name: (h.version, h.target, h.controller) for name, h in found.holds.items()} == {
        "a": ("v1", PIN, "me@here"),
        "b": ("v1", PIN, "me@here"),
    }


def test_rollback_that_finds_everything_held_there_has_nothing_to_do() -> None:
    seen = snapshot(facts(firmware=firmware("v1")), holds={"bmcu": hold(OLD)})
    found = plan(seen, rollback=Rollback(PIN, "v1"))
    assert only(found).action is Action.NONE and (found.transaction, found.holds) == (None, {})


def test_flash_leaves_no_hold() -> None:
    found = plan()
    assert found.transaction is not None and found.transaction.holds == {} and found.holds == {}


def test_printer_that_prints_is_neither_rolled_back_nor_held() -> None:
    found = plan(on_v3(service=service(print_state="printing")), artifacts=(OLD, NEW, V3), rollback=Rollback(PREVIOUS))
    assert only(found).action is Action.DEFER and found.holds == {}


# Klipper's own code


def code(commit: str, *lineage: str) -> dict[str, Any]:
    """A checkout at a commit, and the commits that it was at, newest first."""
    pasts = [Past(Image("", each, 0, each[:3]), "t0") for each in lineage]
    return {"checkout": CheckoutFacts("/k", "pi", commit=commit), "lineages": {HOST_CODE: pasts}}


def goal(*found: Artifact) -> list[Goal]:
    return [Goal(each) for each in found]


def test_host_code_goes_back_to_the_commit_that_it_was_at() -> None:
    seen = snapshot(**code("bbb", "bbb", "aaa"))
    assert code_version(Rollback(PREVIOUS), seen, goal(OLD)) == ("aaa", "")
    moved = snapshot(**code("ccc", "bbb", "aaa"))
    assert code_version(Rollback(PREVIOUS), moved, goal(OLD)) == ("bbb", "")


def test_host_code_that_is_held_there_stays() -> None:
    held = dataclasses.replace(hold(OLD, PREVIOUS), image_sha256="aaa")
    seen = snapshot(**code("aaa", "aaa", "000"), holds={HOST_CODE: held})
    assert code_version(Rollback(PREVIOUS), seen, goal(OLD)) == ("aaa", "")


def test_host_code_has_the_version_of_its_boards_where_its_past_is_not_asked_for() -> None:
    seen = snapshot(**code("bbb", "bbb", "aaa"))
    assert code_version(Rollback(PIN, "v1"), seen, goal(OLD, OLD)) == ("v1", "")
    assert code_version(Rollback(PREVIOUS), snapshot(**code("bbb")), goal(OLD)) == ("v1", "")
    vendor = artifact("1.0", klipper=False)
    assert code_version(Rollback(FACTORY), seen, goal(vendor)) == ("bbb", "")


def test_host_code_of_boards_that_go_to_different_versions_must_be_named() -> None:
    version, problem = code_version(Rollback(PIN, "v1"), snapshot(**code("bbb")), goal(OLD, NEW))
    assert version == "" and "v1 and v2" in problem and "--data klipper_version=" in problem
