"""One incident: who changed what on a host, when and why, how it ended, and what that most likely means."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Outcomes of a transaction after which a person wants to know more.
FAILURES = ("restored", "failed", "needs-attention")
#: The outcome of one that was asked for.
COLLECTED = "collected"


@dataclass(frozen=True)
class Note:
    """What a person at the printer has seen or heard: LEDs, relays, noises."""

    at: str
    who: str
    text: str


@dataclass(frozen=True)
class Incident:
    """``at``: when it was written, ISO 8601 in UTC. ``what``: one line a board, from which version to which.

    ``why``: why somebody wanted it. ``boards``: the agent's results. ``cause``, ``diagnosis`` and ``next``: see
    ``diagnosis``. ``versions`` and ``environment``: of the host and, under ``controller …``, of this computer.
    ``files``: what lies beside it.
    """

    id: str
    host: str
    transaction: str
    at: str
    who: str
    what: list[str]
    why: str
    outcome: str
    detail: str = ""
    boards: dict[str, Any] = field(default_factory=dict)
    downtime: float = 0.0
    step: str = ""
    cause: str = ""
    diagnosis: str = ""
    next: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Incident":
        """Raises ``ValueError`` for what is no incident."""
        value = json.loads(text)
        known = {item.name for item in dataclasses.fields(cls)}
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise ValueError("no incident")
        notes = [Note(**note) for note in value.pop("notes", [])]
        try:
            return cls(**{key: item for key, item in value.items() if key in known}, notes=notes)
        except TypeError as error:
            raise ValueError(str(error)) from None


def incident_id(host: str, transaction: str) -> str:
    """Return the name of an incident's directory; any host name makes one that is safe."""
    return f"{transaction}-{re.sub(r'[^A-Za-z0-9._-]', '_', host)}"


def entry_of(incident: Incident, has_bundle: bool) -> Mapping[str, Any]:
    """Return the incident's line for the record."""
    return {
        "at": incident.at,
        "host": incident.host,
        "transaction": incident.transaction,
        "who": incident.who,
        "what": incident.what,
        "why": incident.why,
        "outcome": incident.outcome,
        "detail": incident.detail,
        "downtime": incident.downtime,
        "cause": incident.cause,
        "incident": incident.id if has_bundle else "",
    }
