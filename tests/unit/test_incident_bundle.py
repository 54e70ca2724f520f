"""A bundle has what a person needs to understand a failure, with none of the host's secrets in any of its files."""

import io
import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent.schema import Evidence, Excerpt, to_json
from fleetflash.build.builds import Build, Builds
from fleetflash.cli import main
from fleetflash.firmware.symbols import SymbolFiles
from fleetflash.incident.archive import Archive
from fleetflash.incident.bundle import Occasion, make
from fleetflash.incident.incident import Incident
from fleetflash.incident.redaction import Redactor
from fleetflash.report import incidents
from tests.unit.observed import NEW, board, plan, snapshot

CANARY = "hunter2-of-the-shop"
ERROR = f"/dev/ttyUSB0: program at 0x3a98: refused with status fe; wifi_password={CANARY}"
OUTCOME: dict[str, Any] = {
    "outcome": "restored",
    "detail": ERROR,
    "boards": {"bmcu": {"result": "restored", "detail": ERROR}},
    "downtime": 7.5,
}


def evidence() -> Evidence:
    whole = plan().transaction
    return Evidence(
        hostname="printer-1",
        environment={"os": "Debian", "note": CANARY},
        versions={"klippy": "v0.12.0"},
        moonraker={"error": f"http://me:{CANARY}@127.0.0.1"},
        transaction="t1",
        record={"transaction": {**to_json(whole), "options": {"psk": CANARY}}, "outcome": OUTCOME},
        journal=[
            {"step": "begin", "time": 1.0, "monotonic": 1.0, "boot": "b"},
            {"step": "writing", "board": "bmcu", "time": 2.0, "monotonic": 2.0, "boot": "b"},
            {"step": "failed", "board": "bmcu", "error": ERROR, "time": 3.0, "monotonic": 3.0, "boot": "b"},
        ],
        logs={"klippy": Excerpt("/x/klippy.log", [f"mqtt says {CANARY}"]), "kernel": Excerpt("dmesg", [], "denied")},
    )


def made(tmp_path: Path, found: Evidence | None = None, **fields: Any) -> tuple[Incident, dict[str, str]]:
    occasion = Occasion(**{"host": "printer-1", "transaction": "t1", "who": "me@here", "why": f"trying {CANARY}",
                           "outcome": OUTCOME, **fields})  # fmt: skip
    symbols = SymbolFiles(tmp_path / "symbols")
    return make(occasion, plan(), found, Builds(tmp_path, Build), symbols, Redactor([CANARY]))


def test_bundle_has_everything_and_no_secret(tmp_path: Path) -> None:
    events = [{"step": "begin", "said": CANARY}]
    incident, files = made(tmp_path, evidence(), events=events)
    assert set(files) == {"outcome.json", "plan.json", "transaction.json", "journal.jsonl", "events.jsonl",
                          "moonraker.json", "logs/klippy.log", "logs/kernel.log"}  # fmt: skip
    assert CANARY not in "".join(files.values()) + incident.to_json()
    assert json.loads(files["transaction.json"])["options"] == {"psk": "[redacted]"}
    assert files["logs/kernel.log"] == "# dmesg: denied\n"
    assert incident.what == ["bmcu: v1 → v2 (" + NEW.image_sha256[:12] + ")"]
    assert (incident.step, incident.cause, incident.downtime) == ("writing", "refused", 7.5)
    assert {"fleetflash", "pyinfra", "agent", "klippy"} <= set(incident.versions)
    assert {"os", "controller os", "controller python"} <= set(incident.environment)
    assert (
        len(files["journal.jsonl"].splitlines()) == 3 and json.loads(files["plan.json"])["rows"][0]["board"] == "bmcu"
    )


def test_host_that_can_not_be_asked_has_a_bundle_of_what_this_computer_saw(tmp_path: Path) -> None:
    seen = evidence().journal
    incident, files = made(tmp_path, None, events=seen, problem="the host could not be asked")
    assert incident.step == "writing" and "could not be asked" in incident.detail
    assert set(files) == {"outcome.json", "plan.json", "events.jsonl"}


def test_log_of_the_images_build_is_in_the_bundle(tmp_path: Path) -> None:
    built = NEW.model_copy(update={"build": {"build": "k" * 64}})
    (tmp_path / ("k" * 64)).mkdir()
    (tmp_path / ("k" * 64) / "build.log").write_text("".join(f"line {n}\n" for n in range(500)) + f"token={CANARY}\n")
    whole = plan(snapshot(), board(), artifacts=(built, plan().artifacts[plan().boards[0].way_back.image_sha256]))  # type: ignore[union-attr]
    occasion = Occasion("printer-1", "t1", "me", "x", OUTCOME)
    _, files = make(occasion, whole, None, Builds(tmp_path, Build), SymbolFiles(tmp_path), Redactor())
    lines = files["build/bmcu.log"].splitlines()
    assert len(lines) == 200 and lines[-2:] == ["line 499", "token=[redacted]"]


def test_evidence_that_was_asked_for_is_no_failure(tmp_path: Path) -> None:
    incident, files = made(tmp_path, evidence(), outcome={}, transaction="20261121T200000-ab")
    assert (incident.outcome, incident.cause, incident.transaction) == ("collected", "", "t1")
    assert incident.id == "20261121T200000-ab-printer-1"
    assert incident.diagnosis.endswith("Its newest transaction ended as restored.")
    assert json.loads(files["outcome.json"])["boards"]["bmcu"]["result"] == "restored"
    assert CANARY not in "".join(files.values())


# What a person is told and asked


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Incident:
    monkeypatch.setenv("FLEETFLASH_INCIDENTS", str(tmp_path / "incidents"))
    incident, files = made(tmp_path, evidence())
    Archive().keep(incident, files)
    return incident


def test_run_ends_with_diagnosis_next_action_and_place(kept: Incident) -> None:
    said = io.StringIO()
    incidents.tell_incidents([kept], set(), said)
    text = said.getvalue()
    assert "printer-1/bmcu failed while it was written" in text and "Next: Cycle the power of bmcu" in text
    assert f"fleetflash incident show {kept.id}" in text and incidents.QUESTION not in text


def test_person_at_the_printer_is_asked_and_the_answer_is_kept(kept: Incident, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    os.write(controller, b"red LED blinks\n")
    with open(terminal, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        said = io.StringIO()
        incidents.tell_incidents([kept], {"printer-1"}, said)
    os.close(controller)
    assert incidents.QUESTION in said.getvalue()
    assert [note.text for note in Archive().get(kept.id).notes] == ["red LED blinks"]


def test_person_who_has_gone_away_does_not_keep_the_run_from_ending(
    kept: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "ANSWER_SECONDS", 0.01)
    controller, terminal = pty.openpty()
    with open(terminal, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        incidents.tell_incidents([kept], {"printer-1"}, io.StringIO())
    os.close(controller)
    assert Archive().get(kept.id).notes == []


def test_attended_run_without_a_terminal_says_how_to_add_a_note(
    kept: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = io.StringIO()
    incidents.tell_incidents([kept], {"printer-1"}, said)
    assert f"fleetflash incident note {kept.id} TEXT" in said.getvalue()


# fleetflash incident


def test_command_lists_shows_and_notes(kept: Incident, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["incident", "list"]) == 0
    assert kept.id in capsys.readouterr().out
    assert main(["incident", "list", "--host", "other"]) == 0
    assert "no incidents" in capsys.readouterr().out
    assert main(["incident", "note", "printer-1", "it", "smells"]) == 0
    capsys.readouterr()
    assert main(["incident", "show", "printer-1"]) == 0
    shown = capsys.readouterr().out
    assert "it smells" in shown and "logs/klippy.log" in shown and "Next: Cycle the power" in shown
    assert main(["incident", "show", kept.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == "refused"
    assert main(["incident", "record"]) == 0
    assert "bmcu: v1 → v2" in capsys.readouterr().out


def test_incident_that_is_not_there_is_one_line(kept: Incident, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["incident", "show", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("fleetflash incident: no incident 'nothing'")
