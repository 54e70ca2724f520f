"""Canaries: the rest goes on only when they are well, counted in whole numbers."""

import pytest

from fleetflash.rollout.canary import CanaryDataError, choose, read_count, read_percent, verdict


def test_first_hosts_of_the_inventory_go_first() -> None:
    assert choose(["a", "b", "c"], 2) == {"a", "b"}
    assert choose(["a"], 5) == {"a"}


def test_one_of_twenty_is_not_more_than_five_percent() -> None:
    results = {f"host-{number}": ["flashed"] for number in range(19)} | {"bad": ["restored"]}
    assert verdict(results, 5) == ""
    assert "bad" in verdict(results, 4)


@pytest.mark.parametrize("word", ["failed", "restored", "needs-attention"])
def test_one_failed_board_makes_a_canary_fail(word: str) -> None:
    assert "1 of 2 canaries failed (b)" in verdict({"a": ["flashed"], "b": ["flashed", word]}, 0)


@pytest.mark.parametrize("word", ["deferred", "offline", "refused", "waiting"])
def test_canaries_that_were_not_flashed_prove_nothing(word: str) -> None:
    assert "nothing is known" in verdict({"a": [word], "b": []}, 100)
    assert verdict({"a": [word], "b": ["flashed"]}, 0) == ""


def test_canary_that_was_current_already_is_well() -> None:
    assert verdict({"a": ["current"]}, 0) == ""


@pytest.mark.parametrize("value", [True, -1, 0.5, "3", None])
def test_counts_and_shares_that_are_no_whole_numbers_are_refused(value: object) -> None:
    with pytest.raises(CanaryDataError, match="canary: expected a whole number"):
        read_count(value)
    with pytest.raises(CanaryDataError, match="max_failed_percent: expected a whole number"):
        read_percent(value)
    with pytest.raises(CanaryDataError):
        read_percent(101)
