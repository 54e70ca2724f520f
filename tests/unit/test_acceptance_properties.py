"""What holds for every log: how it arrives changes nothing, noise is no evidence, faults never help."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.agent.acceptance.judge import Judge
from fleetflash.agent.acceptance.lines import MOST_BYTES, Line, LineCutter, parse
from fleetflash.agent.acceptance.monitor_log import LINE_BYTES, MonitorLog
from fleetflash.agent.acceptance.verdict import Verdict
from tests.unit.boot_logs import CONTRACT, PANIC, START, WITH_CARD, WITHOUT_CARD, text

REPORT = read_contract(CONTRACT)
GOOD = [text(WITH_CARD), text(WITHOUT_CARD)]
#: Lines that a running gateway may print: none of them means anything to the contract.
NOISE = st.lists(
    st.sampled_from(["I (1500) wifi: connected", "", "W (10) can_victron: x", "heap 123456", "ets and rst: no reset"]),
    max_size=8,
)


def cut(data: bytes, places: list[int]) -> list[Line]:
    """The lines of a log that arrives in pieces."""
    cutter = LineCutter()
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    found = []
    for begin, end in itertools.pairwise(bounds):
        found += list(cutter.cut(data[begin:end]))
    return [*found, *cutter.end()]


def judge(lines: list[Line]) -> Verdict:
    judge = Judge(REPORT)
    for line in lines:
        judge.hear(line)
    return judge.verdict()


@settings(deadline=None)
@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8))
def test_how_a_log_is_cut_into_pieces_changes_no_line(data: bytes, places: list[int]) -> None:
    assert cut(data, places) == cut(data, [])


@settings(deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.integers(0, 3000), max_size=8))
def test_how_a_log_arrives_changes_no_verdict(data: bytes, places: list[int]) -> None:
    assert judge(cut(data, places)) == judge(cut(data, []))
    assert judge(cut(data, places)).accepted


@settings(deadline=None)
@given(st.binary(max_size=4096))
def test_no_noise_is_accepted_and_none_is_an_error(data: bytes) -> None:
    verdict = judge(cut(data, []))
    assert not verdict.accepted and verdict.summary()


@settings(deadline=None)
@given(st.sampled_from([WITH_CARD, WITHOUT_CARD]), st.data())
def test_a_log_without_one_of_its_lines_is_rejected(lines: tuple[str, ...], data: st.DataObject) -> None:
    place = data.draw(st.integers(len(START), len(lines) - 2))
    left = [parse(number, line) for number, line in enumerate((*lines[:place], *lines[place + 1 :]), 1)]
    assert not judge(left).accepted


@settings(deadline=None)
@given(st.sampled_from([WITH_CARD, WITHOUT_CARD]), NOISE, st.data())
def test_noise_between_lines_changes_nothing(lines: tuple[str, ...], noise: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(len(START), len(lines) - 1))
    mixed = [*lines[:place], *noise, *lines[place:]]
    verdict = judge([parse(number, line) for number, line in enumerate(mixed, 1)])
    assert verdict.accepted, verdict.summary()
    shown = {ruling.rule: ruling.evidence for ruling in verdict.rulings}
    for ruling in judge([parse(number, line) for number, line in enumerate(lines, 1)]).rulings:
        found = shown[ruling.rule]
        assert (found and found.text) == (ruling.evidence and ruling.evidence.text)


@settings(deadline=None)
@given(st.sampled_from([WITH_CARD, WITHOUT_CARD]), st.sampled_from(PANIC[:1]), st.data())
def test_a_panic_anywhere_after_the_reset_is_rejected(lines: tuple[str, ...], panic: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(3, len(lines)))
    mixed = [*lines[:place], panic, *lines[place:]]
    broken = judge([parse(number, line) for number, line in enumerate(mixed, 1)]).broken
    assert [(ruling.rule, ruling.evidence and ruling.evidence.number) for ruling in broken] == [("panics", place + 1)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.binary(max_size=200)), max_size=20))
def test_a_monitor_log_holds_what_was_heard_line_by_line(heard: list[tuple[float, bytes]]) -> None:
    log = MonitorLog("x")
    for seconds, data in heard:
        log.hear(seconds, data)
    whole = b"".join(data for _, data in heard)
    expected = [line[:LINE_BYTES].rstrip(b"\r") for line in whole.split(b"\n")]
    expected = expected[:-1] if not expected[-1] and not whole.rpartition(b"\n")[2] else expected
    kept = log.content(100.0).split(b"\n")[1:-2]
    assert [line.partition(b"] ")[2] for line in kept] == expected


@settings(deadline=None)
@given(st.integers(0, 5 * MOST_BYTES), st.integers(0, 5 * MOST_BYTES))
def test_no_line_is_longer_than_what_is_looked_at(first: int, second: int) -> None:
    lines = cut(b"x" * first + b"\n" + b"y" * second + b"\n", [first // 2, first + 2])
    assert [len(line.text) for line in lines] == [min(first, MOST_BYTES), min(second, MOST_BYTES)]
