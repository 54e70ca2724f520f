"""``fleetflash accept``: exit codes and words, for logs in each form."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fleetflash.agent.acceptance.monitor_log import HEAD_BYTES, TAIL_BYTES, MonitorLog
from fleetflash.cli import main
from tests.unit.boot_logs import ABSENT, CONTRACT, PANIC, WITH_CARD, WITHOUT_CARD, text

#: More memory than this, in bytes, is not given to a judgement of 100 MB.
MEMORY = 180 << 20


def accept(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["accept", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "boot.log"
    path.write_bytes(data)
    return path


def test_a_good_boot_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = accept(capsys, CONTRACT, write(tmp_path, text(WITH_CARD)))
    assert code == 0
    assert "accepted by io-expander-sd.yaml (12 lines, 9.0 s, 1 start)" in out
    assert "equipment sd: yes" in out
    assert "line 11 at 1.100 s: I (1100) sd: SD state -> INIT_OK" in out


def test_a_faulty_boot_is_rejected_with_rule_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path, text(WITHOUT_CARD))
    code, out, _ = accept(capsys, CONTRACT, log, "--equipment", "sd=yes")
    assert code == 1
    assert "FAIL equipment sd (io-expander-sd.yaml:27): the board's data say yes, but this line shows no" in out
    assert f"line 10 at 1.100 s: {ABSENT}" in out


def test_the_verdict_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = accept(capsys, CONTRACT, write(tmp_path, text((*WITH_CARD, *PANIC))), "--json")
    verdict = json.loads(out)
    assert (code, verdict["accepted"], verdict["equipment"]) == (1, False, {"sd": "yes"})
    ruling = next(ruling for ruling in verdict["rulings"] if ruling["rule"] == "panics")
    assert (ruling["met"], ruling["evidence"]["number"]) == (False, 13)
    assert verdict["panics"][0]["number"] == 13


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.yaml", "boot.log"], "none.yaml: No such file"),
        ([CONTRACT, "none.log"], "none.log: No such file"),
        ([CONTRACT, "empty.log"], "empty.log: the log is empty"),
        ([CONTRACT, "boot.log", "-e", "ssd=yes"], "equipment 'ssd'"),
        ([CONTRACT, "boot.log", "--elf", "boot.log"], "boot.log: this is no ELF file"),
    ],
)
def test_what_can_not_be_judged_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text(WITH_CARD))
    (tmp_path / "empty.log").touch()
    code, out, err = accept(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fleetflash accept: ") and words in err and err.count("\n") == 1


def test_what_the_board_says_can_not_move_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*WITH_CARD, "E (9001) gt911: \x07\x1b]0;title\x07 \x9b2J"]
    _, out, _ = accept(capsys, CONTRACT, write(tmp_path, text(lines)))
    assert "gt911" in out and all(c.isprintable() or c == "\n" for c in out)


def test_a_monitor_log_has_its_own_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MonitorLog("gateway")
    for number, line in enumerate(WITH_CARD[:-1]):
        log.hear(number / 10, f"{line}\r\n".encode())
    code, out, _ = accept(capsys, CONTRACT, write(tmp_path, log.content(6.5)))
    assert code == 0, out
    assert "line 12 at 1.000 s: I (1100) sd: SD state -> INIT_OK" in out
    code, out, _ = accept(capsys, CONTRACT, write(tmp_path, log.content(5.5)))
    assert code == 1 and "FAIL settle" in out


def test_a_log_of_idf_monitor_with_timestamps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dated = [f"2026-01-01 12:00:{number:02d} {line}" for number, line in enumerate(WITH_CARD)]
    code, out, _ = accept(capsys, CONTRACT, write(tmp_path, text([*dated, "2026-01-01 12:00:20 I (2) main: x"])))
    assert code == 0, out
    assert "line 11 at 10.000 s: I (1100) sd: SD state -> INIT_OK" in out


def test_a_long_monitor_log_keeps_its_beginning_and_its_end() -> None:
    log = MonitorLog("gateway")
    for number in range(40_000):
        log.hear(number / 1000, b"I (%d) main: a line of some length\r\n" % number)
    log.hear(41.0, b"x" * 100_000)
    content = log.content(42.0)
    assert len(content) < HEAD_BYTES + TAIL_BYTES + 10_000
    lines = content.splitlines()
    assert lines[1] == b"[    0.000000] I (0) main: a line of some length"
    assert lines[-3].startswith(b"[   39.999000]") and lines[-2].startswith(b"[   41.000000] xxx")
    assert lines[-1] == b"# listened for 42.000 s"
    assert any(b"bytes are left out here" in line for line in lines)


@pytest.mark.parametrize("ended", [True, False])
def test_memory_is_bounded_whatever_the_length_of_the_log(tmp_path: Path, ended: bool) -> None:
    log = tmp_path / "long.log"
    line = b"I (9001) main: " + b"x" * 985 + (b"\n" if ended else b"")
    with log.open("wb") as file:
        file.write(text(WITH_CARD))
        for _ in range(100):
            file.write(line * 1000)
    command = [sys.executable, "-m", "fleetflash", "accept", str(CONTRACT), str(log), "--json"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["lines"] == len(WITH_CARD) + (100_000 if ended else 1)
