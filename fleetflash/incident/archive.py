"""The incidents that are kept: a directory with one directory for each bundle, and the record of every change.

::

    <incidents>/record.jsonl      one line a transaction, failed or not: who, when, what, why, outcome
    <incidents>/record.html       the same to read, with links
    <incidents>/<id>/             a bundle: incident.json, incident.html, and what was gathered

All of it is its owner's alone, and appears complete or not at all.
"""

import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetflash.firmware.durable import one_writer, sync_directory, write_new
from fleetflash.incident import page
from fleetflash.incident.incident import Incident, Note, entry_of
from fleetflash.incident.location import ENVIRONMENT, default_incidents
from fleetflash.incident.redaction import Redactor

DESCRIPTION, PAGE = "incident.json", "incident.html"
RECORD, RECORD_PAGE = "record.jsonl", "record.html"
#: The page of the record shows this many of its last lines.
SHOWN = 500
_LOCK = ".lock"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class IncidentError(Exception):
    """An incident can't be read or kept. One line that says what to do."""


class Archive:
    """Incidents below a directory, which need not exist. Raises ``IncidentError``."""

    def __init__(self, directory: Path | str | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory else default_incidents()

    def keep(self, incident: Incident, files: Mapping[str, str]) -> Path:
        """Write a bundle and its line into the record; return its directory.

        + files: path below the bundle → text, without secrets

        A bundle that is there already is left as it is: it was made nearer to the failure.
        """
        final = self.directory / incident.id
        with self._writing():
            if not final.exists():
                whole = dataclasses.replace(incident, files=sorted(files))
                self._write_bundle(whole, files, final)
                self._append(entry_of(whole, has_bundle=True))
        return final

    def record(self, incident: Incident) -> None:
        """Write a line into the record, for what needs no bundle."""
        with self._writing():
            self._append(entry_of(incident, has_bundle=False))

    def add_note(self, id: str, note: Note) -> Incident:
        """Add what a person has seen to an incident; return it."""
        with self._writing():
            found = self.get(id)
            clean = dataclasses.replace(note, text=Redactor().text(note.text))
            noted = dataclasses.replace(found, notes=[*found.notes, clean])
            directory = self.directory / found.id
            _replace(directory / DESCRIPTION, noted.to_json())
            _replace(directory / PAGE, page.incident_page(noted))
        return noted

    def get(self, id: str) -> Incident:
        """Return the incident whose id begins so, or that is the last of the host of that name."""
        ids = [found for found in self._ids() if found.startswith(id)] if _ID.fullmatch(id) else []
        if not ids or (id not in ids and len(ids) > 1):
            of_host = [incident.id for incident in self.incidents() if incident.host == id]
            if not ids and not of_host:
                raise IncidentError(f"no incident {id!r} in {self.directory}; 'fleetflash incident list' shows them")
            if len(ids) > 1:
                raise IncidentError(f"{len(ids)} incidents begin with {id}: {', '.join(ids)}; give more of one")
            ids = of_host[-1:] or ids
        return self._read(id if id in ids else ids[0])

    def incidents(self) -> list[Incident]:
        """Return all incidents, oldest first."""
        found = [self._read(id) for id in self._ids()]
        return sorted(found, key=lambda incident: (incident.at, incident.id))

    def path(self, incident: Incident) -> Path:
        return self.directory / incident.id

    def entries(self) -> list[dict[str, Any]]:
        """Return the record, oldest first; a line that was torn is left out."""
        try:
            lines = (self.directory / RECORD).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._problem(error) from None
        return [entry for entry in map(_parse, lines) if entry]

    def _ids(self) -> list[str]:
        try:
            return sorted(path.parent.name for path in self.directory.glob(f"*/{DESCRIPTION}"))
        except OSError as error:
            raise self._problem(error) from None

    def _read(self, id: str) -> Incident:
        path = self.directory / id / DESCRIPTION
        try:
            return Incident.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise IncidentError(f"{path}: damaged ({error}); remove its directory") from None

    def _write_bundle(self, incident: Incident, files: Mapping[str, str], final: Path) -> None:
        draft = Path(tempfile.mkdtemp(prefix=".keeping-", dir=self.directory))
        try:
            contents = {**files, DESCRIPTION: incident.to_json(), PAGE: page.incident_page(incident)}
            for name, text in contents.items():
                path = draft / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(path, text)
            sync_directory(draft)
            draft.rename(final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_directory(self.directory)

    def _append(self, entry: Mapping[str, Any]) -> None:
        path = self.directory / RECORD
        line = json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            # A line that a power cut tore must not swallow this one.
            torn = file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n"
            file.write((b"\n" if torn else b"") + line.encode())
            os.fsync(file.fileno())
        _replace(self.directory / RECORD_PAGE, page.record_page(self.entries()[-SHOWN:]))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_writer(self.directory / _LOCK):
                yield
        except OSError as error:
            raise self._problem(error) from None

    def _problem(self, error: OSError) -> IncidentError:
        return IncidentError(f"{self.directory}: {error.strerror or error}; name another place with ${ENVIRONMENT}")


def _parse(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _write(path: Path, text: str) -> None:
    write_new(path, text.encode(errors="replace"), 0o600)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    _write(draft, text)
    draft.replace(path)
    sync_directory(path.parent)
