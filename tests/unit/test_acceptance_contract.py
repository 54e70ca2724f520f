"""A contract with an error in it is refused with file and line, and says what was expected."""

from pathlib import Path

import pytest

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.acceptance.errors import ContractError
from fleetflash.agent.acceptance.contract import Contract, Match, Retry
from fleetflash.agent.schema import from_json, to_json
from tests.unit.boot_logs import CONTRACT

HEAD = "contract: 1\nwithin: 10 s\nsettle: 2 s\n"
GOOD = HEAD + "any_order:\n  - ready\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "boot.yaml"
    path.write_text(text)
    return path


def test_the_contract_of_the_report_is_what_it_says() -> None:
    contract = read_contract(CONTRACT)
    assert (contract.file, contract.settle, contract.restarts) == ("io-expander-sd.yaml", 5.0, 0)
    assert contract.retry == Retry(3, 2.0)
    assert [variant.name for variant in contract.choices[0].variants] == ["yes", "no"]
    first = next(rule for rule in contract.rules if rule.least)
    assert first.match == Match(text="I2C backoff reset", tag="i2c_bus_shared")
    assert (first.within, first.sequence > 0, first.name) == (20.0, True, "I2C backoff reset")
    assert CONTRACT.read_text().splitlines()[first.line - 1].strip().startswith("- {tag: i2c_bus_shared")
    assert contract.longest == 25.0


def test_a_contract_survives_the_way_to_the_host() -> None:
    for path in CONTRACT.parent.glob("*.yaml"):
        contract = read_contract(path)
        assert from_json(Contract, to_json(contract)) == contract


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("", 1, "the file is empty", id="empty"),
        pytest.param("- a\n- b\n", 1, "expected fields, found a list", id="a list"),
        pytest.param("contract: 1\nwithin: 5\n", 1, "settle is missing", id="missing field"),
        pytest.param(HEAD.replace("1", "2", 1), 1, "contract: expected 1", id="another version"),
        pytest.param(HEAD + "anyorder: [ready]\n", 4, "'anyorder' is none of contract, within", id="unknown field"),
        pytest.param(GOOD + "settle: 3\n", 6, "settle is there twice, first in line 3", id="twice"),
        pytest.param(HEAD + "any_order:\n  - {line: a, line: b}\n", 5, "line is there twice", id="twice in a rule"),
        pytest.param(HEAD + "any_order:\n  - a: [\n", 6, "expected the node content", id="no YAML"),
        pytest.param(HEAD + "any_order:\n\t- a\n", 5, "cannot start any token", id="tab"),
        pytest.param(HEAD + "any_order: [a]\x07\n", 4, "a character that no YAML text may hold", id="bell"),
        pytest.param(GOOD + "---\na: 1\n", 6, "but found another document", id="two documents"),
        pytest.param(GOOD.replace("10 s", "soon"), 2, "expected a time such as 500 ms or 20 s", id="no time"),
        pytest.param(GOOD.replace("10 s", "2 h"), 2, "expected a time", id="unknown unit"),
        pytest.param(GOOD.replace("10 s", "0"), 2, "more than 0 s", id="no time at all"),
        pytest.param(GOOD.replace("10 s", "61 min"), 2, "an hour at most", id="too long"),
        pytest.param(GOOD + "restarts: -1\n", 6, "a whole number from 0 to 100", id="negative count"),
        pytest.param(GOOD + "retry: {attempts: 0}\n", 6, "a whole number from 1 to 10", id="no attempt"),
        pytest.param(GOOD + "retry: {tries: 3}\n", 6, "'tries' is none of attempts, pause, recovery", id="retry field"),
        pytest.param(GOOD + "retry: {recovery: kick}\n", 6, "'kick' is neither reset nor power-cycle", id="recovery"),
        pytest.param(HEAD, 1, "nothing must come", id="accepts everything"),
        pytest.param(HEAD + "never:\n  - bad\n", 1, "nothing must come", id="only never"),
        pytest.param(HEAD + "any_order: []\n", 4, "the list is empty", id="empty list"),
        pytest.param(HEAD + "any_order: ready\n", 4, "expected a list, found 'ready'", id="no list"),
        pytest.param(HEAD + "any_order:\n  -\n", 5, "expected fields, found nothing", id="empty rule"),
        pytest.param(HEAD + "any_order:\n  - ''\n", 5, "expected text", id="empty text"),
        pytest.param(HEAD + "any_order:\n  - sd: ready\n", 5, "'sd' is none of name, line", id="colon"),
        pytest.param(HEAD + "any_order:\n  - wifi sta: up\n", 5, "needs quotes", id="colon in text"),
        pytest.param(HEAD + "any_order:\n  - {name: x}\n", 5, "which line is meant", id="no match"),
        pytest.param(HEAD + "any_order:\n  - {line: a, pattern: b}\n", 5, "either line", id="two matches"),
        pytest.param(HEAD + "any_order:\n  - {pattern: 'a('}\n", 5, "is no regular expression", id="bad pattern"),
        pytest.param(HEAD + "any_order:\n  - {pattern: 'a*'}\n", 5, "found in every line", id="empty match"),
        pytest.param(HEAD + "any_order:\n  - {pattern: '(a+)+b'}\n", 5, "may take for ever", id="catastrophic"),
        pytest.param(HEAD + "any_order:\n  - {pattern: '(a|aa)*b'}\n", 5, "may take for ever", id="branching repeat"),
        pytest.param(HEAD + "any_order:\n  - {line: a, level: X}\n", 5, "E W I D V", id="level"),
        pytest.param(HEAD + "any_order:\n  - {line: a, at_least: 3, at_most: 2}\n", 5, "less than the 3", id="counts"),
        pytest.param(HEAD + "any_order:\n  - {line: a, min: 2}\n", 5, "'min' is none of", id="field of values"),
        pytest.param(HEAD + "any_order: [a, b, a]\n", 4, "'a' is there already, in line 4", id="two of a name"),
        pytest.param(GOOD + "limits:\n  - {line: warn}\n", 7, "at_most is missing", id="no limit"),
        pytest.param(GOOD + "never:\n  - {line: a, at_most: 1}\n", 7, "'at_most' is none of", id="limit of never"),
        pytest.param(GOOD + "never:\n  - read\n", 5, "'ready' must come, but 'read' (line 7) forbids it", id="both"),
        pytest.param(GOOD.replace("ready", "Guru Meditation Error"), 5, "'panics' forbids it", id="panic"),
        pytest.param(GOOD + "values:\n  - {line: a, min: 1}\n", 7, "expected a pattern", id="value of a text"),
        pytest.param(GOOD + "values:\n  - {pattern: 'a=1', min: 1}\n", 7, "no group '1'; it has none", id="no group"),
        pytest.param(
            GOOD + "values:\n  - {pattern: 'a=(?P<n>.)', group: m, min: 1}\n",
            7,
            "no group 'm'; it has n, 1",
            id="group",
        ),
        pytest.param(GOOD + "values:\n  - {pattern: 'a=(.)'}\n", 7, "expected min, max", id="no expectation"),
        pytest.param(GOOD + "values:\n  - {pattern: 'a=(.)', min: one}\n", 7, "expected a number", id="no number"),
        pytest.param(GOOD + "values:\n  - {pattern: 'a=(.)', min: .inf}\n", 7, "expected a number", id="infinite"),
        pytest.param(GOOD + "values:\n  - {pattern: 'a=(.)', min: 2, max: 1}\n", 7, "more than max", id="range"),
        pytest.param(GOOD + "equipment:\n  sd:\n    yes: {}\n", 8, "two variants or more", id="one variant"),
        pytest.param(
            GOOD + "equipment:\n  sd:\n    yes: {shown_by: a}\n    no: {shownby: b}\n",
            9,
            "'shownby' is none of",
            id="variant",
        ),
        pytest.param("a: " + "[" * 3000 + "\n", 1, "nested too deeply", id="nested"),
    ],
)
def test_an_error_is_told_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ContractError) as refused:
        read_contract(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_contract_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none.yaml: No such file"):
        read_contract(tmp_path / "none.yaml")


def test_a_file_that_is_no_contract_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="are no contract"):
        read_contract(write(tmp_path, GOOD + "#" * (1 << 20)))


def test_words_that_yaml_takes_for_truth_stay_words(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "equipment:\n  sd:\n    yes: {shown_by: 'on'}\n    off: {shown_by: no}\n")
    [choice] = read_contract(path).choices
    assert [(variant.name, variant.shown_by) for variant in choice.variants] == [
        ("yes", Match(text="on")),
        ("off", Match(text="no")),
    ]


def test_a_harmless_repeat_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "any_order:\n  - {pattern: '(?:0x[0-9a-f]{8} ){4}[a-z|*]+(x)?\\(\\w+\\)'}\n")
    assert read_contract(path).rules[-1].least == 1
