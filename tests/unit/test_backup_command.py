"""A board is written only when the user's own command before it has succeeded; nothing it does can hang a printer."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transaction_host import NEW, OLD, FakeHost, make_host

from fleetflash.agent import backup_command
from fleetflash.agent.command import OUTPUT_BYTES
from fleetflash.agent.protocols.errors import VerifyError
from fleetflash.agent.schema import Transaction

Script = Callable[..., str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes an executable shell script."""

    def make(text: str, name: str = "save.sh", mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return str(path)

    return make


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    return make_host(tmp_path, monkeypatch, "a", "b")


def saving(host: FakeHost, policy: str, *command: str, board: str = "a", seconds: float = 20.0) -> Transaction:
    """A transaction in which one board has a command."""
    whole = host.transaction(policy)
    boards = [
        replace(b, backup_command=list(command), backup_seconds=seconds) if b.name == board else b for b in whole.boards
    ]
    return replace(whole, boards=boards)


def entries(host: FakeHost, step: str) -> list[dict[str, Any]]:
    return [entry for entry in host.store.journal("t-1").read() if entry["step"] == step]


def erased(host: FakeHost) -> list[str]:
    return [board for step, board in host.steps if step == "erase"]


def test_command_runs_once_before_anything_is_erased_and_its_words_are_in_the_journal(
    host: FakeHost, script: Script, tmp_path: Path
) -> None:
    command = script(f'echo "saved $FLEETFLASH_BOARD" | tee -a {tmp_path}/runs')
    assert host.run(saving(host, "compatible", command)) == "committed"
    assert (tmp_path / "runs").read_text() == "saved a\n"
    (saved,) = entries(host, "saved")
    assert (saved["board"], saved["code"], saved["output"]) == ("a", 0, "saved a\n") and saved["seconds"] >= 0
    steps = host.journal("stopped", "saving", "saved", "writing")
    assert steps == ["stopped", "saving a", "saved a", "writing a", "writing b"]


def test_command_is_told_what_it_is_about(host: FakeHost, script: Script) -> None:
    command = script('env | grep "^FLEETFLASH_" | sort; pwd; echo "$1"')
    host.run(saving(host, "compatible", command, "one word"))
    assert entries(host, "saved")[0]["output"].splitlines() == [
        "FLEETFLASH_BOARD=a",
        "FLEETFLASH_CHIP=ch32v203c8t6",
        f"FLEETFLASH_FROM={OLD}",
        "FLEETFLASH_PORT=/dev/a",
        f"FLEETFLASH_TO={NEW}",
        "FLEETFLASH_TRANSACTION=t-1",
        f"FLEETFLASH_UID={host.boards['a'].uid}",
        "/",
        "one word",
    ]


def test_failure_refuses_the_write_of_that_board_and_of_no_other(host: FakeHost, script: Script) -> None:
    command = script("echo no space left on the stick >&2; exit 3")
    assert host.run(saving(host, "compatible", command)) == "failed"
    assert erased(host) == ["b"] and host.versions() == {"a": OLD, "b": NEW}
    assert host.results() == {"a": "failed", "b": "flashed"}
    detail = host.outcome()["boards"]["a"]["detail"]
    assert "a: backup_command" in detail and "exit code 3, so nothing was erased" in detail
    assert "no space left on the stick" in detail and "run again" in detail
    assert host.active and host.left_behind() == []


@pytest.mark.parametrize("board", ["a", "b"])
def test_with_exact_no_board_is_touched_when_one_command_fails(host: FakeHost, script: Script, board: str) -> None:
    assert host.run(saving(host, "exact", script("exit 1"), board=board)) == "failed"
    assert ("enter", "a") not in host.steps and ("enter", "b") not in host.steps
    assert host.versions() == {"a": OLD, "b": OLD} and host.active


def test_command_that_does_not_end_is_killed_with_all_it_has_started(
    host: FakeHost, script: Script, tmp_path: Path
) -> None:
    command = script(f"echo begun; sleep 600 & echo $! > {tmp_path}/child; wait")
    assert host.run(saving(host, "compatible", command, seconds=0.5)) == "failed"
    assert erased(host) == ["b"]
    assert "did not end within 0.5 s (backup_seconds) and was killed" in host.outcome()["boards"]["a"]["detail"]
    assert (entries(host, "saved")[0]["code"], entries(host, "saved")[0]["output"]) == (None, "begun\n")
    assert is_gone(int((tmp_path / "child").read_text()))


def test_what_a_command_leaves_running_has_no_part_in_the_write(host: FakeHost, script: Script, tmp_path: Path) -> None:
    command = script(f"sleep 600 & echo $! > {tmp_path}/child")
    assert host.run(saving(host, "compatible", command)) == "committed"
    assert is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process that was killed is dead: its new parent may take a moment to bury it."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_only_the_end_of_a_long_output_is_kept(host: FakeHost, script: Script) -> None:
    command = script("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1")
    host.run(saving(host, "compatible", command))
    (saved,) = entries(host, "saved")
    assert len(saved["output"]) == OUTPUT_BYTES and saved["output"].endswith("x\nthe end\n")
    assert len(host.outcome()["boards"]["a"]["detail"]) < 700


def test_output_that_is_no_text_is_kept_as_text(host: FakeHost, script: Script) -> None:
    host.run(saving(host, "compatible", script(r"printf '\377\033[31m red'; exit 1")))
    assert entries(host, "saved")[0]["output"] == "\ufffd\x1b[31m red"
    assert "\x1b" not in host.outcome()["boards"]["a"]["detail"]


@pytest.mark.parametrize("missing", ["/nowhere/save.sh", "no-such-program-of-anybody"])
def test_missing_program_is_refused_before_klipper_stops(host: FakeHost, missing: str) -> None:
    assert host.run(saving(host, "compatible", missing)) == "refused"
    detail = host.outcome()["detail"]
    assert f"a: backup_command: {missing} is no program on this host" in detail and "nothing was stopped" in detail
    assert ("stop", "") not in host.steps


def test_program_that_can_not_be_executed_is_refused_before_klipper_stops(host: FakeHost, script: Script) -> None:
    assert host.run(saving(host, "compatible", script("true", mode=0o644))) == "refused"
    assert ("stop", "") not in host.steps


def test_program_that_can_not_start_refuses_the_write(host: FakeHost, tmp_path: Path) -> None:
    """Its interpreter is missing: nobody sees that before it is started."""
    path = tmp_path / "save.sh"
    path.write_text("#!/nowhere/interpreter\n")
    path.chmod(0o755)
    assert host.run(saving(host, "compatible", str(path))) == "failed"
    assert erased(host) == ["b"]
    assert f"exit code 127, so nothing was erased; it said: {path}: No such file" in host.outcome()["detail"]


def test_program_is_found_on_the_path(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script("true", "save-printer")
    host = make_host(tmp_path, monkeypatch, "a")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    whole = saving(host, "compatible", "save-printer")
    assert backup_command.why_missing(whole.boards[0]) == "" and host.run(whole) == "committed"


def test_command_is_not_run_again_for_a_way_back(host: FakeHost, script: Script, tmp_path: Path) -> None:
    host.faults["verify", "a"] = [VerifyError("differs")]
    assert host.run(saving(host, "exact", script(f"echo x >> {tmp_path}/runs"))) == "restored"
    assert (tmp_path / "runs").read_text() == "x\n" and host.versions() == {"a": OLD, "b": OLD}
