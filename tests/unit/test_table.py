"""Plans and outcomes are readable on a terminal and exact in a pipe."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.report.table import Row, print_outcomes, print_plan, to_json, totals

ROW = Row(
    host="printer-1",
    board="bmcu-a",
    port="/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3:1.0-port0",
    chip="ch32v203c8t6",
    running="v0.11.0-120-g12345678",
    wanted="v0.12.0-7-gabcdef12",
    image="sha256:0123456789ab",
    way_back="factory sha256:ba9876543210",
    seconds=3.42,
    downtime=14.2,
    outcome="flashed",
    detail="",
)
OFFLINE = Row("printer-9", "-", "", "", "", "", "", "", None, None, "offline", "no route to host")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(rows: list[Row], plan: bool = False, terminal: bool = False) -> str:
    file = Terminal() if terminal else io.StringIO()
    (print_plan if plan else print_outcomes)(rows, file)
    return file.getvalue()


def test_totals() -> None:
    rows = [replace(ROW, board=str(number)) for number in range(6)]
    rows += [replace(ROW, outcome="refused", downtime=2.0), replace(ROW, outcome="current", downtime=None)]
    assert totals(rows) == "8 boards: 6 flashed, 1 already current, 1 refused · Klipper down 14.2 s at most"
    assert totals([]) == "0 boards"
    assert totals([replace(ROW, downtime=None)]) == "1 board: 1 flashed"
    assert totals([replace(ROW, downtime=0.0, outcome="none")]) == "1 board: 1 already current"


def test_offline_host_is_a_row_and_not_a_board() -> None:
    text = printed([ROW, OFFLINE, replace(OFFLINE, host="printer-8")])
    assert text.splitlines()[-1] == "1 board: 1 flashed · 2 hosts offline · Klipper down 14.2 s at most"
    assert "printer-9: offline: no route to host" in text.splitlines()


@pytest.mark.parametrize("plan", [True, False])
def test_piped_table_is_aligned_and_never_wraps_a_value(plan: bool) -> None:
    rows = [ROW, replace(ROW, host="p", board="a-board-with-a-long-name", seconds=123.0, way_back="none " * 40)]
    lines = printed(rows, plan).splitlines()
    assert len(lines) == 5
    assert lines[3] == ""
    header = lines[0]
    for column in ("BOARD", "WANTED", "RUNNING"):
        at = header.index(column)
        assert all(line[at - 1] == " " and line[at] != " " for line in lines[1:3])
    assert all(ord(character) < 128 for line in lines[:4] for character in line)
    if plan:
        assert ROW.port in lines[1] and "none " * 39 in lines[2]
        headers = "HOST BOARD PORT CHIP UNIQUE ID RUNNING WANTED IMAGE WAY BACK BACKUP SECONDS DOWN ACTION"
        assert " ".join(header.split()) == headers


def test_numbers_are_aligned_to_the_right() -> None:
    lines = printed([ROW, replace(ROW, seconds=123.0), replace(ROW, seconds=None)]).splitlines()
    ends = lines[0].index("SECONDS") + len("SECONDS")
    assert [line[:ends].split()[-1] for line in lines[1:4]] == ["3.4", "123.0", "-"]


def test_reasons_are_whole_lines_below_the_table() -> None:
    reason = "chip is ch32v203rbt6, expected ch32v203c8t6; " * 8
    rows = [replace(ROW, host="printer-2", outcome="refused", detail=reason), ROW]
    assert f"printer-2/bmcu-a: refused: {reason.strip()}" in printed(rows).splitlines()
    assert "printer-2/bmcu-a: refused: x" in printed([replace(rows[0], outcome="refuse", detail="x")], plan=True)


OUTCOMES = (
    *("flash", "none", "refuse", "defer", "waiting", "offline", "flashed", "current", "refused", "deferred"),
    *("restored", "failed", "needs-attention"),
)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_shown_and_counted(outcome: str) -> None:
    for terminal in (True, False):
        text = printed([replace(ROW, outcome=outcome)], terminal=terminal)
        assert outcome in text and text.splitlines()[-1].startswith("1 board: 1 ")


def test_terminal_gets_colours_and_a_pipe_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mflashed" in printed([ROW], terminal=True)
    assert "\x1b[1;31mfailed" in printed([replace(ROW, outcome="failed")], terminal=True)
    assert "\x1b" not in printed([ROW])
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed([ROW], terminal=True)


@pytest.mark.parametrize("width", [80, 100])
def test_narrow_terminal_drops_columns_before_it_folds_values(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed([replace(ROW, outcome="needs-attention")], plan=True, terminal=True)
    assert all(word in text for word in ("printer-1", "bmcu-a", "needs-attention"))
    assert f"not shown on a terminal of {width} columns: port, chip, unique id, image, way back" in text
    assert width < 100 or (ROW.running in text and ROW.wanted in text)


@given(value=st.text(max_size=40))
def test_no_value_breaks_the_table(value: str) -> None:
    row = replace(ROW, running=value, detail=value, way_back=value)
    for plan in (True, False):
        for terminal in (True, False):
            text = printed([row], plan, terminal)
            assert terminal or all(line.isprintable() for line in text.splitlines())
        assert len(printed([row], plan).split("\n")) in (5, 6)


def test_markup_in_a_value_is_text() -> None:
    assert "[bold]v1[/x]" in printed([replace(ROW, running="[bold]v1[/x]", wanted="v")], terminal=True)


def test_file_without_unicode_is_no_error() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_outcomes([replace(ROW, running="vé"), OFFLINE], file)
    file.flush()
    assert b"v?" in raw.getvalue()


def test_json_holds_every_field() -> None:
    document = json.loads(to_json([ROW, OFFLINE]))
    assert document["totals"] == {"flashed": 1, "offline": 1}
    assert Row(**document["rows"][0]) == ROW
    assert document["rows"][1]["seconds"] is None


def test_table_needs_nothing_else_of_fleetflash() -> None:
    # What the interpreter has loaded at its start (the hook for pyserial) doesn't count.
    program = (
        "import sys; before = set(sys.modules); import fleetflash.report.table; "
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('fleetflash.')))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['fleetflash.report', 'fleetflash.report.columns', 'fleetflash.report.table']"
