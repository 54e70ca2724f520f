"""Partitions are erased in the one run that is told to, with a backup, and nothing else ever is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from fleetflash.agent.board import Session
from fleetflash.agent.protocols.flash_parts import Part, pack, unpack
from fleetflash.agent.schema import Firmware, LedgerEntry, Region, Transaction, from_json, to_json
from fleetflash.boards import Board, BoardDataError, read_host
from fleetflash.facts import decision
from fleetflash.firmware.errors import ImageError
from fleetflash.firmware.esp_partitions import read_partitions
from fleetflash.firmware.partition import Partition
from fleetflash.lab.esp_image import build_app, build_layout
from fleetflash.plan import Action, BoardPlan, HostPlan
from fleetflash.plan.erasure import NOTHING, Erasure, read_erasure
from fleetflash.report.rows import outcome_rows, plan_rows
from tests.unit.observed import board, facts, gateway_artifact, plan, snapshot

BUILDS = (gateway_artifact("v1", "factory"), gateway_artifact("v2"))
DONE = LedgerEntry(BUILDS[1].id, BUILDS[1].image_sha256, "v2", "t0", "esp32")
SILENT = Firmware("unasked", error="only a reset would have it say what it runs")
PARTITIONS = (
    Partition("nvs", 0x9000, 0x4000),
    Partition("otadata", 0xD000, 0x2000, "what says which application starts"),
    Partition("factory", 0x10000, 0x100000, "an application"),
    Partition("web", 0x12000, 0x1000),
    Partition("history", 0x200000, 0x10000),
)
NVS = Erasure((("", "nvs"),))


def gateway(**fields: Any) -> Board:
    return board("gateway", **{"chip": "esp32", "programmer": "esptool", "firmware": "gateway", **fields})


def planned(erasure: Erasure, ledger: LedgerEntry | None = DONE, **fields: Any) -> HostPlan:
    observed = snapshot(facts("gateway", firmware=SILENT, ledger=ledger))
    return plan(observed, gateway(**fields), artifacts=BUILDS, partitions=PARTITIONS, erasure=erasure)


def only(found: HostPlan) -> BoardPlan:
    (one,) = found.boards
    return one


# What is asked


def asked(typed: Mapping[str, object], **data: object) -> Erasure:
    return read_erasure({**data, **typed}, typed, ["gw-east", "bmcu"])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("nvs", (("", "nvs"),)),
        ("gw-east/nvs, history", (("gw-east", "nvs"), ("", "history"))),
        (["gw-east/nvs"], (("gw-east", "nvs"),)),
    ],
)
def test_partitions_are_named_for_all_boards_or_for_one(value: object, found: object) -> None:
    assert asked({"erase_now": value}).asked == found
    assert asked({}) == NOTHING


def test_each_board_gets_what_is_meant_for_it_once() -> None:
    erasure = asked({"erase_now": "nvs,gw-east/nvs,gw-east/history"})
    assert (erasure.of("gw-east"), erasure.of("bmcu")) == (("nvs", "history"), ("nvs",))


@pytest.mark.parametrize(
    ("typed", "data", "words"),
    [
        ({}, {"erase_now": "nvs"}, "is for one run: in the inventory it would erase at every flash"),
        ({"erase_now": ""}, {}, "expected the name of a partition, found ''"),
        ({"erase_now": True}, {}, "expected the name of a partition, found True"),
        ({"erase_now": ["nvs", 1]}, {}, "expected the name of a partition"),
        ({"erase_now": "gw-east/"}, {}, "expected BOARD/PARTITION"),
        ({"erase_now": "gw-esat/nvs"}, {}, "no host of this run has a board 'gw-esat'; there are bmcu, gw-east"),
    ],
)
def test_what_nobody_can_mean_is_refused(typed: dict[str, object], data: dict[str, object], words: str) -> None:
    with pytest.raises(BoardDataError, match="erase_now") as error:
        asked(typed, **data)
    assert words in str(error.value)


def test_the_board_s_own_erase_is_no_order() -> None:
    described = {"boards": {"gateway": {"chip": "esp32", "programmer": "esptool", "port": "/dev/x", "firmware": "g"}}}
    (problem,) = read_host("desk", {**described, "erase": "nvs"}).errors
    assert "--data erase_now=nvs" in problem[1]


# The plan


def test_a_gateway_that_is_current_is_written_for_it_and_by_the_next_run_left_alone() -> None:
    found = planned(NVS)
    assert only(found).action is Action.FLASH and only(found).reason == "erases nvs (16 KiB at 0x9000)"
    assert found.transaction is not None
    (written,) = found.transaction.boards
    assert written.erase == [Region("nvs", 0x9000, 0x4000)]
    assert from_json(Transaction, to_json(found.transaction)) == found.transaction
    assert only(planned(NOTHING)).action is Action.NONE
    assert only(planned(NOTHING, ledger=None)).erase == ()


def test_what_is_erased_is_read_before_whatever_is_registered() -> None:
    """The factory image brings the firmware back, and not what the gateway has stored."""
    assert only(planned(NOTHING, ledger=None)).way_back_kind == "factory"
    found = only(planned(NVS, ledger=None))
    assert (found.way_back, found.way_back_kind, found.backup) == (None, "read-back", "read-back")
    (row,) = plan_rows(planned(NVS, ledger=None))
    assert (row.outcome, row.way_back) == ("flash", "read-back") and "erases nvs" in row.detail


def test_what_an_interrupted_write_has_left_is_no_backup_of_what_is_erased() -> None:
    half = dataclasses.replace(DONE, image_sha256="unfinished")
    assert only(planned(NOTHING, half)).action is Action.FLASH
    found = only(planned(NVS, half))
    assert found.action is Action.REFUSE and "run without erase_now first" in found.reason
    waived = only(planned(NVS, half, accept_no_way_back=True))
    assert waived.action is Action.FLASH and "NO backup is taken" in waived.reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nsv", "has no partition 'nsv' that erase_now could erase; it has history, nvs, web"),
        ("factory", "that partition holds an application, so the gateway would not start"),
        ("otadata", "that partition holds what says which application starts"),
        ("web", "writes 10000.bin there, so what lies there is replaced anyway"),
    ],
)
def test_what_must_not_be_erased_is_refused_and_nothing_of_the_board_is_written(name: str, words: str) -> None:
    found = planned(Erasure((("", "nvs"), ("gateway", name))), ledger=None)
    assert only(found).action is Action.REFUSE and words in only(found).reason
    assert found.transaction is None


def test_what_an_image_must_not_overwrite_is_erased_when_a_run_is_told_to() -> None:
    assert only(planned(Erasure((("gateway", "history"),)), keep=["history"])).action is Action.FLASH


def test_a_printer_s_board_has_nothing_to_erase_and_is_left_alone_when_another_is_meant() -> None:
    found = only(plan(erasure=NVS, partitions=PARTITIONS))
    assert found.action is Action.REFUSE and "wch_isp knows no partitions" in found.reason
    assert only(plan(erasure=Erasure((("gateway", "nvs"),)))).action is Action.FLASH


def test_an_image_without_a_partition_table_does_not_say_where() -> None:
    observed = snapshot(facts("gateway", firmware=SILENT))
    found = only(plan(observed, gateway(), artifacts=BUILDS, erasure=NVS))
    assert found.action is Action.REFUSE and "has no partition table" in found.reason


def test_the_outcome_says_what_was_erased() -> None:
    outcome = {"outcome": "committed", "boards": {"gateway": {"result": "flashed", "detail": ""}}}
    (row,) = outcome_rows(planned(NVS), outcome)
    assert (row.outcome, row.detail) == ("flashed", "erased nvs")


def test_rollback_and_backup_erase_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Host:
        name = "desk"

        def __init__(self) -> None:
            self.data = self.state = self.inventory = self

        def get_override_data(self) -> dict[str, Any]:
            return {"erase_now": "nvs", "to": "previous"}

        def dict(self) -> dict[str, Any]:
            return {"boards": {}, **self.get_override_data()}

    for decide in (decision.decide_rollback, decision.decide_backup):
        (row,) = decide(Host()).boards
        assert row.action is Action.REFUSE and "erase_now is for deploys/flash.py" in row.reason


# The image


def test_partitions_are_those_of_the_image_s_own_table() -> None:
    layout = build_layout("esp32", {"factory": build_app("esp32", "v1", size=0x14000)})
    packed = pack(Part(offset, data) for offset, data in layout.parts.items())
    found = {partition.name: partition for partition in read_partitions(packed, "gateway v1")}
    assert found["nvs"] == Partition("nvs", 0x9000, 0x4000)
    assert found["factory"].holds == "an application" and found["otadata"].holds
    assert read_partitions(pack([Part(0x10000, b"x")]), "gateway v1") == []
    with pytest.raises(ImageError, match="gateway v1: the partition table at 0x8000"):
        read_partitions(pack([Part(0x8000, b"\xaa\x50" + b"\x01" * 0xBFE)]), "gateway v1")


def test_what_is_erased_is_written_and_compared_with_the_image_and_no_way_back_is() -> None:
    steps: list[tuple[str, list[Part]]] = []

    class Programmer:
        capabilities = type("Capabilities", (), {"parts": True})

        def write(self, image: bytes, progress: object) -> None:
            steps.append(("write", unpack(image)))

        def verify(self, image: bytes, progress: object) -> None:
            steps.append(("verify", unpack(image)))

    found = planned(NVS).transaction
    assert found is not None
    session = Session(found.boards[0], Programmer(), "")  # type: ignore[arg-type]
    image = pack([Part(0x10000, b"app")])
    session.write(image, lambda phase: lambda done, total: None, found.boards[0].erase)
    both = [Part(0x9000, b"\xff" * 0x4000), Part(0x10000, b"app")]
    assert steps == [("write", both), ("verify", both)]
    session.write(image, lambda phase: lambda done, total: None)
    assert steps[2:] == [("write", both[1:]), ("verify", both[1:])]
