"""Lines of a configuration: read, written, and every one that was asked for must survive."""

from pathlib import Path

import pytest

from fleetflash.build.errors import ConfigurationError
from fleetflash.build.kconfig import Change, declared_symbols, difference, lost, parse, write_line

NOTHING = frozenset[str]()


def test_a_configuration_is_read() -> None:
    text = '# A comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="a \\"b\\""\nCONFIG_D=0x2000\nCONFIG_E=-1\n'
    assert parse(text) == {"A": "y", "B": "n", "C": '"a \\"b\\""', "D": "0x2000", "E": "-1"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CONFIG_A=y\nMACH_AVR=y\n", "line 2 is 'MACH_AVR=y', expected CONFIG_NAME=value"),
        ("CONFIG_A-B=y\n", "line 1 is"),
        ("CONFIG_A=y\n# CONFIG_A is not set\n", "CONFIG_A is asked for twice, as y and as n"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("value", "line", "read"),
    [
        (True, "CONFIG_X=y", "y"),
        (False, "# CONFIG_X is not set", "n"),
        (250000, "CONFIG_X=250000", "250000"),
        ("0x8002000", "CONFIG_X=0x8002000", "0x8002000"),
        ("!PA1,PC3", 'CONFIG_X="!PA1,PC3"', '"!PA1,PC3"'),
        ("", 'CONFIG_X=""', '""'),
        ("y", 'CONFIG_X="y"', '"y"'),
        ('a"b\\c', 'CONFIG_X="a\\"b\\\\c"', '"a\\"b\\\\c"'),
    ],
)
def test_values_are_written_as_kconfig_reads_them(value: object, line: str, read: str) -> None:
    assert write_line("X", value) == line
    assert parse(line) == {"X": read}


@pytest.mark.parametrize(
    ("symbol", "value"), [("A B", True), ("", True), ("X", 1.5), ("X", "a\nCONFIG_Y=y"), ("X", None)]
)
def test_what_kconfig_could_not_read_is_refused(symbol: str, value: object) -> None:
    with pytest.raises(ConfigurationError):
        write_line(symbol, value)


def test_lines_that_survive_are_not_lost() -> None:
    wanted = {"A": "y", "B": "n", "C": "0x2000", "D": "8192", "E": '"x"'}
    effective = {"A": "y", "B": "n", "C": "0x2000", "D": "0x2000", "E": '"x"', "MORE": "y"}
    assert lost(wanted, effective, NOTHING) == []


def test_dropped_and_changed_lines_are_lost() -> None:
    wanted = {"A": "y", "B": "115200", "C": '"x"', "D": "n", "E": "y"}
    effective = {"A": "n", "B": "250000", "C": '"y"', "D": "y"}
    assert lost(wanted, effective, frozenset("ABCDE")) == [
        Change("A", "y", "n"),
        Change("B", "115200", "250000"),
        Change("C", '"x"', '"y"'),
        Change("D", "n", "y"),
        Change("E", "y", None),
    ]


def test_switching_off_what_is_hidden_is_fine_but_what_does_not_exist_is_lost() -> None:
    assert lost({"HIDDEN": "n"}, {}, frozenset({"HIDDEN"})) == []
    assert lost({"TYPO": "n"}, {}, frozenset({"HIDDEN"})) == [Change("TYPO", "n", None)]


def test_differences_are_what_changed_came_and_went() -> None:
    before, after = {"A": "1", "B": "y", "C": "n"}, {"A": "2", "C": "n", "D": "y"}
    assert [str(change) for change in difference(before, after)] == [
        "CONFIG_A: 1 → 2",
        "CONFIG_B: y → absent",
        "CONFIG_D: absent → y",
    ]


def test_declared_symbols_are_those_of_all_kconfig_files(tmp_path: Path) -> None:
    (tmp_path / "src/avr").mkdir(parents=True)
    (tmp_path / "src/Kconfig").write_text(
        "config A\n  bool\nmenuconfig B\n# config C\n    help\n      config this well\n"
    )
    (tmp_path / "src/avr/Kconfig").write_text("choice\n\tconfig D\n\t\tbool\nendchoice\n")
    assert declared_symbols(tmp_path) == {"A", "B", "D"}
