"""What a journal says of boards, whatever step it ends at."""

from typing import Any

import pytest

from fleetflash.agent.history import downtime, restored_boards, uids, unsettled, verified_boards


def entry(step: str, board: str = "", **details: Any) -> dict[str, Any]:
    return {"monotonic": 0.0, "boot": "first", "step": step, **({"board": board} if board else {}), **details}


STORY = [
    entry("begin", monotonic=0.0),
    entry("stopping", monotonic=10.0),
    entry("writing", "a", uid="aa", monotonic=10.5),
    entry("verified", "a", monotonic=11.0),
    entry("writing", "b", uid="bb", monotonic=11.5),
    entry("failed", "b", monotonic=12.0),
    entry("restoring", "b", monotonic=12.5),
    entry("restored", "b", monotonic=13.0),
    entry("starting", monotonic=14.0),
    entry("ready", monotonic=15.5),
]


def test_board_is_unsettled_from_its_first_erased_byte_until_it_is_restored() -> None:
    seen = [unsettled(STORY[:length]) for length in range(len(STORY) + 1)]
    assert seen == [set()] * 3 + [{"a"}] * 2 + [{"a", "b"}] * 3 + [{"a"}] * 3


def test_restore_that_was_interrupted_leaves_the_board_unsettled() -> None:
    assert unsettled(STORY[:7]) == {"a", "b"}
    assert restored_boards(STORY[:7]) == set()
    assert restored_boards(STORY) == {"b"}


def test_board_written_again_after_its_restore_is_unsettled_again() -> None:
    again = [*STORY, entry("writing", "b", uid="bb")]
    assert unsettled(again) == {"a", "b"} and restored_boards(again) == set()


def test_only_the_last_write_counts_as_verified() -> None:
    assert verified_boards(STORY) == {"a"}
    assert verified_boards([*STORY, entry("writing", "a")]) == set()
    assert verified_boards([*STORY, entry("restoring", "a")]) == set()


def test_unique_ids_are_those_at_writing() -> None:
    assert uids(STORY) == {"a": "aa", "b": "bb"}


def test_unique_id_that_a_protected_chip_told_only_in_the_end_counts() -> None:
    told = [*STORY, entry("writing", "c", uid=""), entry("verified", "c", uid="cc")]
    assert uids(told[:-1])["c"] == "" and uids(told)["c"] == "cc"


def test_klipper_counts_as_away_until_it_was_ready() -> None:
    assert downtime(STORY) == 5.5
    assert downtime(STORY[:9]) == 4.0
    assert downtime(STORY[:1]) == 0.0


@pytest.mark.parametrize("booted", [3.0, 9000.0])
def test_time_without_power_is_not_counted_whatever_the_clocks_say(booted: float) -> None:
    after = {"settling": 0.0, "restored": 4.0, "starting": 4.5}
    settled = [entry(step, boot="second", monotonic=booted + seconds) for step, seconds in after.items()]
    assert downtime([*STORY[:5], *settled]) == 1.5 + 4.5


def test_moments_of_an_unknown_boot_are_not_compared() -> None:
    assert downtime([entry("stopping", boot="", monotonic=900.0), entry("ready", boot="", monotonic=5.0)]) == 0.0
    assert downtime([{"step": "stopping", "time": 1.0}, {"step": "ready", "time": 2.0}]) == 0.0
