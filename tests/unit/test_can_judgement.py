"""What a BMS must put on the bus is there, at its period, with values that can be; or it is said what is not."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cantools
import pytest

from fleetflash.functional.can_database import CanDatabase
from fleetflash.functional.can_judgement import CanJudge
from fleetflash.functional.candump import read_frames
from fleetflash.functional.description import VICTRON, CanCheck
from fleetflash.functional.errors import CheckDataError
from fleetflash.functional.verdict import Finding
from tests.unit.candump_logs import START, bus, limits, line, measured, state

EVERY = {name: {"period": 0.5} for name in ("0x351", "0x355", "0x356")}


def judged(lines: Iterable[bytes], window: tuple[float, float] | None = None, **check: Any) -> dict[str, Finding]:
    described = CanCheck.model_validate({"log": "x", "messages": EVERY, **check})
    judge = CanJudge(described, CanDatabase(VICTRON))
    for frame in read_frames(lines, "x.log"):
        judge.hear(frame)
    begin, end = window or (None, None)
    found = judge.conclude(None if begin is None else START + begin, None if end is None else START + end)
    return {finding.name: finding for finding in found}


def problems(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.verdict.problem for name, finding in found.items() if finding.verdict.problem}


def test_a_healthy_bus_has_a_row_for_every_message_and_signal_and_no_problem() -> None:
    found = judged(bus())
    assert problems(found) == {} and len(found) == 3 + 4 + 3 + 3
    assert found["can 0x351"].verdict.found == "12 frames, every 0.500 s, 0.500 s at most"
    assert found["can 0x351"].expected == "every 0.5 s ± 20%"
    assert found["can 0x356 BatteryVoltage"].verdict.found == "52.31 V"
    assert found["can 0x356 BatteryCurrent"].verdict.found == "-12.5 A"
    assert found["can 0x356 BatteryTemperature"].verdict.found == "21.4 °C"
    assert found["can 0x355 StateOfChargeHighResolution"].verdict.found == "80.12 %"
    assert found["can 0x351 ChargeVoltageLimit"].verdict.found == "58.4 V"


@pytest.mark.parametrize("identifier", ["351", "355", "356"])
def test_a_message_that_is_absent_is_a_problem_of_it_alone(identifier: str) -> None:
    assert list(problems(judged(bus(without=[identifier])))) == [f"can 0x{identifier}"]


def test_the_same_number_as_extended_identifier_is_another_message() -> None:
    lines = [each.replace(b" 351#", b" 00000351#") for each in bus()]
    assert "can 0x351" in problems(judged(lines))


def test_silence_is_a_problem_of_every_message() -> None:
    found = problems(judged([], window=(0, 12)))
    assert sorted(found) == ["can 0x351", "can 0x355", "can 0x356"]


@pytest.mark.parametrize(("period", "fine"), [(0.5, True), (0.59, True), (0.61, False), (0.41, True), (0.39, False)])
def test_a_mean_period_beyond_the_tolerance_is_a_problem(period: float, fine: bool) -> None:
    assert (problems(judged(bus(period=period))) == {}) is fine


def test_a_message_that_stops_is_a_problem_although_its_mean_was_right() -> None:
    lines = [each for each in bus() if b" 355#" not in each or each < line(3.0, "355", b"")]
    found = problems(judged(lines))
    assert list(found) == ["can 0x355"] and found["can 0x355"].startswith("absent for 3.010 s")


def test_a_message_that_begins_late_is_a_problem() -> None:
    lines = [each for each in bus() if b" 356#" not in each or each > line(3.0, "356", b"")]
    assert list(problems(judged(lines))) == ["can 0x356"]


def test_a_bus_that_dies_is_seen_by_the_clock_of_the_capture() -> None:
    assert problems(judged(bus())) == {}
    assert len(problems(judged(bus(), window=(0, 12)))) == 3


def test_a_gap_in_the_middle_is_a_problem() -> None:
    lines = [each for each in bus() if b" 351#" not in each or not line(2, "", b"") < each < line(3.9, "", b"")]
    found = problems(judged(lines))
    assert list(found) == ["can 0x351"] and found["can 0x351"].startswith("absent for 2.500 s")
    assert problems(judged(lines, longest=10, tolerance=0.9)) == {}


def test_too_short_a_capture_proves_no_period() -> None:
    found = problems(judged(bus(seconds=1.0)))
    assert "1.5 s are needed" in found["can 0x351"]


def test_without_a_period_presence_is_enough() -> None:
    lines = [line(0, "351", limits()), line(0.1, "355", state()), line(9, "356", measured())]
    assert problems(judged(lines, messages={name: {} for name in EVERY})) == {}


def test_a_value_outside_of_the_dbc_is_told_with_the_first_line_it_is_in() -> None:
    lines = [*bus(), line(6.01, "355", state(soc=101)), line(6.02, "355", state(soc=120))]
    found = judged(lines)
    assert problems(found) == {"can 0x355 StateOfCharge": "101 % at line 49, expected 0 to 100 %"}


def test_the_inventory_narrows_a_range() -> None:
    narrow = {**EVERY, "0x351": {"period": 0.5, "signals": {"ChargeVoltageLimit": [48, 56]}}}
    found = problems(judged(bus(), messages=narrow))
    assert found == {"can 0x351 ChargeVoltageLimit": "58.4 V at line 2, expected 48 to 56 V"}


def test_what_many_leave_out_may_be_left_out_and_nothing_else() -> None:
    short = [each if b" 355#" not in each else each[:-4] for each in bus()]
    found = judged(short)
    assert problems(found) == {}
    assert found["can 0x355 StateOfChargeHighResolution"].verdict.found == "left out"
    assert list(problems(judged(short, optional=[]))) == ["can 0x355 StateOfChargeHighResolution"]
    shorter = [each if b" 355#" not in each else each[:-8] for each in bus()]
    assert list(problems(judged(shorter))) == ["can 0x355 StateOfHealth"]
    empty = [each if b" 355#" not in each else each[:-12] for each in bus()]
    assert list(problems(judged(empty))) == ["can 0x355 StateOfCharge", "can 0x355 StateOfHealth"]


def test_an_unknown_message_or_signal_is_a_mistake_that_names_those_there_are() -> None:
    with pytest.raises(CheckDataError, match=r"no 0x35A; it has 0x351 ChargeLimits"):
        judged([], messages={"0x35A": {}})
    with pytest.raises(CheckDataError, match=r"0x355: no signal SOC; it has StateOfCharge, "):
        judged([], messages={"0x355": {"signals": {"SOC": [0, 100]}}})


def test_a_message_may_be_named_as_in_the_dbc() -> None:
    assert "can 0x355" in judged(bus(), messages={"StateOfCharge": {}})


def test_a_period_and_an_extended_identifier_of_a_dbc_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.dbc"
    path.write_text(
        'VERSION ""\nNS_ :\nBS_:\nBU_: A\nBO_ 2566848997 Status: 2 A\n SG_ Mode : 0|8@1+ (1,0) [0|3] "" A\n'
        'BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;\nBA_DEF_DEF_ "GenMsgCycleTime" 0;\n'
        'BA_ "GenMsgCycleTime" BO_ 2566848997 200;\n'
    )
    found = CanDatabase(path).message("0x18ff01e5")
    assert (found.name, found.extended, found.period) == ("Status", True, 0.2)
    assert CanDatabase(path).decode(0x18FF01E5, True, b"\x02\x00") == {"Mode": 2.0}


@pytest.mark.parametrize("content", ["", "BO_ 849 Broken\n", None])
def test_what_is_no_dbc_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.dbc"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckDataError) as caught:
        CanDatabase(path).message("0x351")
    assert "x.dbc" in str(caught.value) and "\n" not in str(caught.value)


def test_the_dbc_agrees_with_the_published_tables() -> None:
    # REC's 9R manual: 0x351 0.1 V, 0.1 A, 0.1 A, 0.1 V; 0x355 1 %, 1 %, 0.01 %; 0x356 0.01 V, 0.1 A, 0.1 °C.
    database = cantools.database.load_file(VICTRON)
    scales = {
        (message.frame_id, signal.start): (signal.scale, signal.is_signed, signal.byte_order)
        for message in database.messages  # type: ignore[union-attr]
        for signal in message.signals
    }
    low = "little_endian"
    assert scales == {
        (0x351, 0): (0.1, False, low),
        (0x351, 16): (0.1, True, low),
        (0x351, 32): (0.1, True, low),
        (0x351, 48): (0.1, False, low),
        (0x355, 0): (1, False, low),
        (0x355, 16): (1, False, low),
        (0x355, 32): (0.01, False, low),
        (0x356, 0): (0.01, True, low),
        (0x356, 16): (0.1, True, low),
        (0x356, 32): (0.1, True, low),
    }
