"""A pin that is not a string has lost digits already, and is refused with the right quoting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.firmware.errors import PinError
from fleetflash.firmware.versions import check_pin, pinned_id


@pytest.mark.parametrize("pin", ["v0.12.0-120-gabcdef12", "0.12", "?", "v1-dirty-20260101_120000-my host", "1e999"])
def test_strings_are_taken_as_they_are(pin: str) -> None:
    assert check_pin(pin) == pin


@pytest.mark.parametrize(("value", "shown"), [(0.12, "0.12"), (12, "12"), (-1.5, "-1.5")])
def test_numbers_are_refused_with_the_quoting_shown(value: object, shown: str) -> None:
    with pytest.raises(PinError) as caught:
        check_pin(value)
    assert f"--data firmware_version='\"{shown}\"'" in str(caught.value)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers()), st.binary()))
def test_nothing_but_strings_is_a_pin(value: object) -> None:
    with pytest.raises(PinError) as caught:
        check_pin(value)
    assert "\n" not in str(caught.value) and "firmware_version" in str(caught.value)


def test_what_nobody_wrote_is_not_shown_back() -> None:
    for value in (float("inf"), float("-inf"), float("nan"), 10**5000):
        with pytest.raises(PinError, match="number inf"):
            check_pin(value)


@pytest.mark.parametrize("pin", ["", " ", " v1", "v1\n", "v\x00", "v\x1b[31m"])
def test_blank_and_control_characters_are_refused(pin: str) -> None:
    with pytest.raises(PinError):
        check_pin(pin)


def test_pin_by_id() -> None:
    assert pinned_id("sha256:0123abcd") == "0123abcd"
    assert pinned_id("sha256:0123abc") is pinned_id("0123abcd") is pinned_id("sha256:0123ABCD") is None
