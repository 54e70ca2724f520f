"""The readable pages: one for an incident, one for the record. Everything in them is escaped."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from fleetflash.incident.incident import Incident


def incident_page(incident: Incident) -> str:
    return _template("incident.html.j2").render(incident=incident)


def record_page(entries: Sequence[Mapping[str, Any]]) -> str:
    """``entries``: oldest first; the page shows the newest first."""
    return _template("record.html.j2").render(entries=list(reversed(entries)))


@cache
def _template(name: str) -> Template:
    loader = FileSystemLoader(Path(__file__).parent / "pages")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)
