"""Incidents are kept whole, for their owner alone, and found again; the record has a line for every transaction."""

import dataclasses
import json
import stat
from pathlib import Path

import pytest

from fleetflash.incident import archive as module
from fleetflash.incident.archive import Archive, IncidentError
from fleetflash.incident.incident import Incident, Note, incident_id
from fleetflash.incident.location import default_incidents


def incident(host: str = "printer-1", transaction: str = "20261121T200000-abcdef", **fields: object) -> Incident:
    made = Incident(
        id=incident_id(host, transaction),
        host=host,
        transaction=transaction,
        at="2026-11-21T20:00:09+00:00",
        who="me@here",
        what=["bmcu: v0.11.0 → v0.12.0 (0a4c3f7e91d2)"],
        why="the display <flickers>",
        outcome="restored",
        boards={"bmcu": {"result": "restored", "detail": "x"}},
    )
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "incidents")


def test_bundle_is_there_whole_readable_and_its_owners_alone(archive: Archive) -> None:
    directory = archive.keep(incident(), {"logs/klippy.log": "# x\ny\n", "plan.json": "{}\n"})
    assert (directory / "logs/klippy.log").read_text() == "# x\ny\n"
    page = (directory / "incident.html").read_text()
    assert "the display &lt;flickers&gt;" in page and 'href="logs/klippy.log"' in page
    found = archive.get("20261121T200000-abcdef-printer-1")
    assert found == incident(files=["logs/klippy.log", "plan.json"])
    for path in (archive.directory, *archive.directory.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_record_has_who_when_what_why_and_outcome_of_what_failed_and_of_what_did_not(archive: Archive) -> None:
    archive.record(incident("printer-2", outcome="committed"))
    archive.keep(incident(cause="silent"), {})
    fine, bad = archive.entries()
    assert (fine["host"], fine["outcome"], fine["incident"]) == ("printer-2", "committed", "")
    assert (bad["who"], bad["at"], bad["why"]) == ("me@here", "2026-11-21T20:00:09+00:00", "the display <flickers>")
    assert bad["what"] == ["bmcu: v0.11.0 → v0.12.0 (0a4c3f7e91d2)"] and bad["cause"] == "silent"
    page = (archive.directory / "record.html").read_text()
    assert f'href="{bad["incident"]}/incident.html"' in page and page.index("printer-1") < page.index("printer-2")


def test_bundle_of_the_same_transaction_is_not_made_again(archive: Archive) -> None:
    archive.keep(incident(), {"a": "first"})
    directory = archive.keep(incident(), {"a": "second"})
    assert (directory / "a").read_text() == "first" and len(archive.entries()) == 1


def test_note_is_kept_with_the_incident_on_its_page_and_without_secrets(archive: Archive) -> None:
    archive.keep(incident(), {})
    archive.add_note("printer-1", Note("2026-11-21T20:05:00+00:00", "me", "red LED blinks; password=hunter2"))
    noted = archive.get("printer-1")
    assert [note.text for note in noted.notes] == ["red LED blinks; password=[redacted]"]
    assert "red LED blinks" in (archive.path(noted) / "incident.html").read_text()


def test_incident_is_found_by_the_beginning_of_its_id_or_by_its_host(archive: Archive) -> None:
    first, second = incident(), incident(transaction="20261122T200000-abcdef", at="2026-11-22T20:00:00+00:00")
    for each in (second, first):
        archive.keep(each, {})
    assert archive.get("20261121").transaction == first.transaction
    assert archive.get("printer-1").transaction == second.transaction
    assert [found.id for found in archive.incidents()] == [first.id, second.id]
    with pytest.raises(IncidentError, match="2 incidents begin with 2026112"):
        archive.get("2026112")
    for unknown in ("printer-9", "../..", ""):
        with pytest.raises(IncidentError, match="incident list"):
            archive.get(unknown)


def test_any_host_name_makes_a_directory_below_the_archive(archive: Archive) -> None:
    directory = archive.keep(incident("@ssh/../../x y"), {})
    assert directory.parent == archive.directory and archive.get(directory.name).host == "@ssh/../../x y"


def test_line_that_a_power_cut_tore_is_left_out_and_swallows_none(archive: Archive) -> None:
    archive.record(incident("a"))
    with (archive.directory / module.RECORD).open("a") as file:
        file.write('{"host": "b", "wh')
    archive.record(incident("c"))
    assert [entry["host"] for entry in archive.entries()] == ["a", "c"]


def test_damaged_incident_is_named_with_what_to_do(archive: Archive) -> None:
    directory = archive.keep(incident(), {})
    (directory / "incident.json").write_text('{"id": "x"}')
    with pytest.raises(IncidentError, match=r"incident\.json: damaged .* remove its directory"):
        archive.incidents()


def test_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IncidentError, match=r"name another place with \$FLEETFLASH_INCIDENTS"):
        Archive(tmp_path / "file/incidents").record(incident())


def test_incidents_lie_beside_the_artifacts_unless_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEETFLASH_INCIDENTS", raising=False)
    monkeypatch.setenv("FLEETFLASH_STORE", str(tmp_path / "store"))
    assert default_incidents() == tmp_path / "incidents"
    monkeypatch.setenv("FLEETFLASH_INCIDENTS", str(tmp_path / "elsewhere"))
    assert default_incidents() == tmp_path / "elsewhere"


def test_incident_survives_its_json() -> None:
    whole = incident(notes=[Note("t", "me", "x")], versions={"a": "1"}, files=["b"])
    assert Incident.from_json(whole.to_json()) == whole
    assert Incident.from_json(json.dumps({**json.loads(whole.to_json()), "later": 1})) == whole
