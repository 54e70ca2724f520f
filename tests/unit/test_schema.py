"""What controller and agent say to each other survives the way through JSON, and what doesn't fit names its place."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent import schema
from fleetflash.agent.schema import (
    BoardFacts,
    BoardTransaction,
    Entry,
    Evidence,
    Firmware,
    Image,
    ObjectCheck,
    PortFacts,
    Probe,
    SchemaError,
    ServiceFacts,
    Snapshot,
    SnapshotRequest,
    Transaction,
    from_json,
    to_json,
)

#: ``Any`` fields hold what a Klipper dictionary's constants hold.
CONSTANT = st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.floats(allow_nan=False))
for kind in (float,):
    st.register_type_strategy(kind, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(Firmware, st.builds(Firmware, constants=st.dictionaries(st.text(), CONSTANT)))
st.register_type_strategy(Image, st.builds(Image, constants=st.dictionaries(st.text(), CONSTANT)))
BOUND = st.none() | st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(ObjectCheck, st.builds(ObjectCheck, equals=CONSTANT, minimum=BOUND, maximum=BOUND))
FIELDS = st.dictionaries(st.text(), CONSTANT)
st.register_type_strategy(Evidence, st.builds(Evidence, record=FIELDS, journal=st.lists(FIELDS, max_size=3)))

TYPES = [
    kind
    for kind in vars(schema).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == schema.__name__
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_type_survives_the_round_trip_through_json(kind: Any) -> None:
    @given(st.from_type(kind))
    def check(value: Any) -> None:
        assert from_json(kind, json.loads(json.dumps(to_json(value)))) == value

    check()


def transaction() -> dict[str, Any]:
    image = Image("a", "0" * 64, 7, "v2")
    board = BoardTransaction(
        *("bmcu", "/dev/p", "/dev/d", "ch32v203c8t6", ["19:31"], 65536, "wch_isp", Entry("lines"), Firmware("klippy")),
        *(image, image),
    )
    whole = Transaction("t", "me", [board], "klipper.service", "/s", True, True, "exact", 9.0)
    return dict(json.loads(json.dumps(to_json(whole))))


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """A transaction with one value replaced, or removed where ``value`` is ``...``."""
    whole = transaction()
    place: Any = whole
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["id"], 7, "Transaction.id: expected str, found 7"),
        (["id"], ..., "Transaction: field 'id' is missing"),
        (["odd"], 1, "Transaction: unknown field 'odd'"),
        (["was_active"], 1, "Transaction.was_active: expected bool, found 1"),
        (["restore_seconds"], True, "Transaction.restore_seconds: expected float, found True"),
        (["boards"], {}, "Transaction.boards: expected"),
        (["boards", 0], "x", "Transaction.boards[0]: expected an object, found 'x'"),
        (["boards", 0, "flash_size"], True, "Transaction.boards[0].flash_size: expected int, found True"),
        (["boards", 0, "flash_size"], 1.5, "Transaction.boards[0].flash_size: expected int, found 1.5"),
        (["boards", 0, "chip_ids"], ["a", 1], "Transaction.boards[0].chip_ids[1]: expected str, found 1"),
        (["boards", 0, "entry", "method"], None, "Transaction.boards[0].entry.method: expected str, found None"),
        (["boards", 0, "entry", "speed"], 1, "Transaction.boards[0].entry: unknown field 'speed'"),
        (["boards", 0, "way_back", "sha256"], ..., "Transaction.boards[0].way_back: field 'sha256' is missing"),
        (["boards", 0, "wanted", "constants"], [], "Transaction.boards[0].wanted.constants: expected"),
    ],
)
def test_message_that_does_not_fit_names_the_path_of_its_field(path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        from_json(Transaction, changed(path, value))
    assert str(caught.value).startswith(message)


def test_what_may_be_absent_may_be_null_and_whole_numbers_are_numbers() -> None:
    found = from_json(Transaction, changed(["boards", 0, "way_back"], None))
    assert found.boards[0].way_back is None
    assert from_json(Transaction, changed(["restore_seconds"], 9)).restore_seconds == 9.0


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(SchemaError, match="SnapshotRequest: expected an object"):
        from_json(SnapshotRequest, value)


def test_names_in_a_dictionary_are_part_of_the_path() -> None:
    service = ServiceFacts("klipper.service", "active")
    facts = BoardFacts("bmcu", "/dev/d", [], Firmware("none"))
    port = PortFacts("/dev/d", [], [])
    told = to_json(Snapshot("h", "3.9", "", "", 1, service, [port], {"bmcu": facts}))
    assert from_json(Snapshot, told).boards == {"bmcu": facts}
    told["boards"]["bmcu"]["device"] = 7
    with pytest.raises(SchemaError, match=r"^Snapshot.boards\['bmcu'\].device: expected str, found 7"):
        from_json(Snapshot, told)


def test_defaults_fill_in_what_an_older_controller_does_not_say() -> None:
    request = from_json(SnapshotRequest, {"boards": [{"name": "bmcu", "port": "/dev/p"}]})
    assert request == SnapshotRequest([Probe("bmcu", "/dev/p", None, 250000)], "klipper.service", "")
