"""What a run says of its failures at its end, and what it asks the person who stands there."""

import os
import select
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TextIO

from fleetflash.incident.archive import Archive, IncidentError
from fleetflash.incident.incident import Incident, Note
from fleetflash.report.columns import plain, write_line

#: Somebody who has gone away must not keep the run from ending, in seconds.
ANSWER_SECONDS = 120.0
QUESTION = "what do you see and hear there (LEDs, relays, display, noises)? Enter for nothing: "


def tell_incidents(incidents: Sequence[Incident], attended: Collection[str], file: TextIO = sys.stderr) -> None:
    """Print each failure's diagnosis and where its bundle is; ask at ``attended`` hosts what a person sees."""
    archive = Archive()
    for incident in incidents:
        write_line("", file)
        write_line(plain(incident.diagnosis), file)
        write_line(f"Next: {plain(incident.next)}", file)
        write_line(f"Evidence: {archive.path(incident)} (fleetflash incident show {incident.id})", file)
        if incident.host in attended:
            _ask(archive, incident, file)


def _ask(archive: Archive, incident: Incident, file: TextIO) -> None:
    if not sys.stdin.isatty():
        write_line(f"Somebody is there: fleetflash incident note {incident.id} TEXT keeps what they see.", file)
        return
    file.write(f"{plain(incident.host)}: {QUESTION}")
    file.flush()
    ready, _, _ = select.select([sys.stdin], [], [], ANSWER_SECONDS)
    said = plain(sys.stdin.readline()) if ready else "-"
    if said == "-":
        write_line("", file)
        return
    who = os.environ.get("SUDO_USER") or os.environ.get("USER") or "unknown"
    try:
        archive.add_note(incident.id, Note(datetime.now(UTC).isoformat(timespec="seconds"), who, said))
    except IncidentError as error:
        write_line(f"The note could not be kept: {error}", file)
