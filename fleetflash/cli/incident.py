"""``fleetflash incident``: the failures that were kept, what was seen at them, and the record of every change."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from fleetflash.incident.archive import Archive, IncidentError
from fleetflash.incident.incident import Incident, Note
from fleetflash.incident.location import ENVIRONMENT
from fleetflash.report.columns import plain, print_columns

OK, USER_ERROR = 0, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("incident", help="failures that were kept, and the record", description=__doc__)
    commands = parser.add_subparsers(dest="incident_command", required=True, metavar="COMMAND")
    for name, help_text, function in (
        ("list", "list the bundles, oldest first", _list),
        ("show", "show one: its diagnosis, and where its files are", _show),
        ("note", "add what somebody at the printer has seen: LEDs, relays, noises", _note),
        ("record", "list every transaction: who, when, what, why, outcome", _record),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        command.add_argument(
            "--incidents", metavar="DIR", help=f"default: ${ENVIRONMENT}, else beside the artifact store"
        )
        command.set_defaults(run=_runner(function))
        if name in ("show", "note"):
            command.add_argument("id", metavar="ID", help="the beginning of its id, or a host: its last one")
        if name == "note":
            command.add_argument("text", nargs="+", metavar="TEXT")
        else:
            command.add_argument("--json", action="store_true", help="print JSON")
        if name in ("list", "record"):
            command.add_argument("--host", help="only those of this host")


def _runner(function: Callable[[argparse.Namespace, Archive], None]) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        try:
            function(arguments, Archive(arguments.incidents))
        except IncidentError as error:
            print(f"fleetflash incident: {plain(str(error))}", file=sys.stderr)
            return USER_ERROR
        return OK

    return run


def _list(arguments: argparse.Namespace, archive: Archive) -> None:
    found = [incident for incident in archive.incidents() if arguments.host in (None, incident.host)]
    if arguments.json:
        _print_json([dataclasses.asdict(incident) for incident in found])
    elif found:
        rows = [(each.at, each.host, each.outcome, each.cause or "-", each.id) for each in found]
        print_columns(("WHEN", "HOST", "OUTCOME", "CAUSE", "ID"), rows, sys.stdout)
    else:
        print(f"no incidents in {archive.directory}")


def _show(arguments: argparse.Namespace, archive: Archive) -> None:
    incident = archive.get(arguments.id)
    if arguments.json:
        _print_json({**dataclasses.asdict(incident), "directory": str(archive.path(incident))})
        return
    print(plain(incident.diagnosis))
    print(f"Next: {plain(incident.next)}\n")
    facts = {
        "who": incident.who,
        "when": incident.at,
        "what": "; ".join(incident.what) or "nothing was to be written",
        "why": incident.why,
        "outcome": f"{incident.outcome}{f': {incident.detail}' if incident.detail else ''}",
        "cause": incident.cause,
        "transaction": incident.transaction,
        **{f"board {name}": f"{board.get('result')}: {board.get('detail')}" for name, board in incident.boards.items()},
        **{f"seen {note.at}": f"{note.text} ({note.who})" for note in incident.notes},
        **incident.versions,
        **incident.environment,
        "files": str(archive.path(incident)),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {plain(value)}")
    for file in incident.files:
        print(f"{'':{width}}  {plain(file)}")


def _note(arguments: argparse.Namespace, archive: Archive) -> None:
    who = os.environ.get("SUDO_USER") or os.environ.get("USER") or "unknown"
    note = Note(datetime.now(UTC).isoformat(timespec="seconds"), who, " ".join(arguments.text))
    incident: Incident = archive.add_note(arguments.id, note)
    print(f"{incident.id}: {len(incident.notes)} notes")


def _record(arguments: argparse.Namespace, archive: Archive) -> None:
    found = [entry for entry in archive.entries() if arguments.host in (None, entry.get("host"))]
    if arguments.json:
        _print_json(found)
        return
    rows = [
        (
            str(entry.get("at", "")),
            str(entry.get("host", "")),
            str(entry.get("who", "")),
            "; ".join(map(str, entry.get("what", []))),
            str(entry.get("why", "")),
            str(entry.get("outcome", "")),
            str(entry.get("incident", "")),
        )
        for entry in found
    ]
    if rows:
        print_columns(("WHEN", "HOST", "WHO", "WHAT", "WHY", "OUTCOME", "INCIDENT"), rows, sys.stdout)
    print(f"{len(rows)} transactions; to read: {archive.directory / 'record.html'}")


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
