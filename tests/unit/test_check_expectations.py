"""What a value must be is said in one way, and a value that is only like it is not taken for it."""

from typing import Any

import pytest
from pydantic import ValidationError

from fleetflash.functional.document import DocumentError, field, read_document, told, unlike
from fleetflash.functional.expectation import Expectation

NAN = float("nan")


@pytest.mark.parametrize(
    ("expected", "met", "unmet"),
    [
        ({"equals": "v1"}, ["v1"], ["v1.0", "V1", 1, None]),
        ({"equals": True}, [True], [1, "true", False]),
        ({"equals": 1}, [1, 1.0], [True, "1", 2]),
        ({"one_of": ["a", 2]}, ["a", 2], ["2", "b", None]),
        ({"min": 0, "max": 100}, [0, 100, 52.5], [-0.1, 100.1, "50", True, None, NAN]),
        ({"min": 3}, [3], [2, NAN]),
        ({"max": 3}, [3, -1e9], [4]),
        ({"pattern": r"v\d+"}, ["v12"], ["v12-dirty", "xv12", 12]),
        ({}, ["", 0, False, [], {}], [None]),
    ],
)
def test_only_what_is_expected_meets_it(expected: dict[str, Any], met: list[Any], unmet: list[Any]) -> None:
    expectation = Expectation.model_validate(expected)
    assert [expectation.met_by(value) for value in met] == [True] * len(met)
    assert [expectation.met_by(value) for value in unmet] == [False] * len(unmet)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"equals": 1, "min": 0}, "expected one of"),
        ({"min": 2, "max": 1}, "min 2 is above max 1"),
        ({"pattern": "("}, "regular expression"),
        ({"min": NAN}, "finite"),
        ({"minimum": 1}, "Extra inputs"),
        ({"min": "1"}, "valid number"),
    ],
)
def test_an_expectation_that_can_not_be_is_refused(expected: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Expectation.model_validate(expected)


def test_fields_are_found_by_names_and_indices() -> None:
    document = {"battery": {"cells": [{"mV": 3301}, {"mV": 3302}]}}
    assert field(document, "battery.cells.1.mV") == 3302


@pytest.mark.parametrize(
    ("path", "said"),
    [("battery.cell", "no field battery.cell"), ("battery.cells.2", "no field battery.cells.2"),
     ("battery.cells.-1", "no field battery.cells.-1"), ("battery.cells.0.mV.x", "no field battery.cells.0.mV.x")],
)  # fmt: skip
def test_a_field_that_is_not_there_is_named_as_far_as_the_way_goes(path: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        field({"battery": {"cells": [{"mV": 1}, {}]}}, path)


def test_all_fields_that_are_unlike_are_told() -> None:
    expected = {"a": Expectation(equals="x"), "b": Expectation(min=1, max=2), "c": Expectation()}
    assert list(unlike({"a": "y", "b": 3}, expected)) == ["a = y", "b = 3", "no field c"]
    assert told({"a": "x", "b": 1.5, "c": [1]}, expected) == "a = x, b = 1.5, c = [1]"


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(DocumentError, match="no JSON"):
        read_document(content)
