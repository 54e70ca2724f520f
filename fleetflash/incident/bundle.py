"""From what was gathered to an incident and its files, nothing of it unredacted. Only logs that are here are read."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fleetflash import __version__
from fleetflash.agent.schema import ELF_SHA256, Evidence, to_json
from fleetflash.build.builds import LOG, Build, Builds
from fleetflash.firmware.symbols import SymbolFiles
from fleetflash.incident.boot_files import boot_files
from fleetflash.incident.diagnosis import diagnose
from fleetflash.incident.incident import COLLECTED, Incident, incident_id
from fleetflash.incident.redaction import Redactor
from fleetflash.link import agent_archive
from fleetflash.plan import HostPlan
from fleetflash.report import monitor_logs
from fleetflash.report.rows import plan_rows

#: Lines of a build's log that are kept.
BUILD_LINES = 200


@dataclass(frozen=True)
class Occasion:
    """Why an incident is made.

    ``transaction``: its id, or a name made up for one that was asked for. ``who``: as in ``Transaction.controller``.
    ``why``: why somebody wanted the change. ``outcome``: the agent's, ``{}`` when evidence was asked for.
    ``events``: what this controller saw of the transaction. ``problem``: why the host could not be asked.
    """

    host: str
    transaction: str
    who: str
    why: str
    outcome: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]] = ()
    problem: str = ""


def make(
    occasion: Occasion,
    plan: HostPlan | None,
    evidence: Evidence | None,
    builds: Builds[Build],
    symbols: SymbolFiles,
    redactor: Redactor,
) -> tuple[Incident, dict[str, str]]:
    """Return the incident and its files (path → text), without secrets.

    + plan: ``None`` when the transaction was another controller's, whose plan nobody has
    + evidence: ``None`` when the host could not be asked
    + builds: where the logs of builds are
    + symbols: where the ELF files of gateways' builds are
    """
    journal: Sequence[Mapping[str, Any]] = evidence.journal if evidence and evidence.journal else occasion.events
    logs = {name: excerpt.lines for name, excerpt in evidence.logs.items()} if evidence else {}
    outcome = occasion.outcome
    found = diagnose(occasion.host, outcome, journal, logs) if outcome else None
    incident = Incident(
        id=incident_id(occasion.host, occasion.transaction),
        host=occasion.host,
        transaction=evidence.transaction if evidence and not outcome else occasion.transaction,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        who=occasion.who,
        what=what(plan, evidence),
        why=occasion.why,
        outcome=str(outcome.get("outcome", COLLECTED)),
        detail="; ".join(filter(None, [str(outcome.get("detail", "")), occasion.problem])),
        boards=dict(outcome.get("boards", {})),
        downtime=float(outcome.get("downtime") or 0.0),
        step=found.step if found else "",
        cause=found.cause if found else "",
        diagnosis=found.text if found else _asked_for(occasion.host, evidence),
        next=found.next if found else "Read what is in this bundle.",
        versions={**_versions(), **(evidence.versions if evidence else {})},
        environment={**_environment(), **(evidence.environment if evidence else {})},
    )
    clean = Incident.from_json(json.dumps(redactor.value(asdict(incident))))
    values = {name: _as_text(name, redactor.value(value)) for name, value in _values(occasion, plan, evidence).items()}
    directory = monitor_logs.directory(occasion.host, incident.transaction)
    boots = dict(boot_files(outcome, _elf_files(plan, evidence), directory, symbols))
    texts = {**_logs(evidence), **boots, **_build_logs(plan, builds)}
    return clean, {**values, **{name: redactor.text(text) for name, text in texts.items()}}


def _asked_for(host: str, evidence: Evidence | None) -> str:
    """Say why there is a bundle of a host on which nothing has failed just now."""
    text = f"Somebody asked for the evidence of {host}."
    ended = _last_outcome(evidence).get("outcome")
    return f"{text} Its newest transaction ended as {ended}." if ended else text


def _last_outcome(evidence: Evidence | None) -> Mapping[str, Any]:
    """Return how the newest transaction of the host has ended, as the host has it."""
    return (evidence.record.get("outcome") if evidence else None) or {}


def _elf_files(plan: HostPlan | None, evidence: Evidence | None) -> dict[str, str]:
    """Return board → sha256 of the ELF file of what was wanted, for gateways."""
    whole = to_json(plan.transaction) if plan and plan.transaction else None
    whole = whole or (evidence.record.get("transaction") if evidence else None) or {}
    constants = {
        str(board.get("name")): board.get("wanted", {}).get("constants", {}) for board in whole.get("boards", [])
    }
    return {name: str(known[ELF_SHA256]) for name, known in constants.items() if ELF_SHA256 in known}


def what(plan: HostPlan | None, evidence: Evidence | None) -> list[str]:
    """Return one line a board that was to be written: from which version to which."""
    if plan is not None and plan.transaction is not None:
        rows = [row for row in plan_rows(plan) if row.outcome == "flash"]
        return [f"{row.board}: {row.running or 'unknown'} → {row.wanted} ({row.image})" for row in rows]
    transaction = (evidence.record.get("transaction") if evidence else None) or {}
    return [
        f"{board.get('name')}: {board.get('expected', {}).get('version') or 'unknown'} → "
        f"{board.get('wanted', {}).get('version')} ({str(board.get('wanted', {}).get('sha256', ''))[:12]})"
        for board in transaction.get("boards", [])
    ]


def _values(occasion: Occasion, plan: HostPlan | None, evidence: Evidence | None) -> dict[str, Any]:
    """Return path → JSON value; of ``.jsonl`` a list of them."""
    outcome = occasion.outcome or _last_outcome(evidence)
    values: dict[str, Any] = {"outcome.json": outcome, "events.jsonl": occasion.events}
    if plan is not None:
        transaction = to_json(plan.transaction) if plan.transaction else None
        rows = [asdict(row) for row in plan_rows(plan)]
        values["plan.json"] = {"rows": rows, "notes": plan.notes, "transaction": transaction}
    if evidence is not None:
        values["journal.jsonl"] = evidence.journal
        values["transaction.json"] = evidence.record.get("transaction")
        values["moonraker.json"] = evidence.moonraker
    return {name: value for name, value in values.items() if value}


def _as_text(name: str, value: Any) -> str:
    if name.endswith(".jsonl"):
        return "".join(json.dumps(item, sort_keys=True, ensure_ascii=False) + "\n" for item in value)
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _logs(evidence: Evidence | None) -> dict[str, str]:
    """Return path → text: a line that says where it is from, and why there is no more, then the log's own."""
    files = {}
    for name, excerpt in evidence.logs.items() if evidence else ():
        head = f"# {excerpt.source}{f': {excerpt.error}' if excerpt.error else ''}"
        files[f"logs/{name}.log"] = "\n".join([head, *excerpt.lines]) + "\n"
    return files


def _build_logs(plan: HostPlan | None, builds: Builds[Build]) -> dict[str, str]:
    """Return the logs of images that were built on this computer."""
    files = {}
    for board in plan.boards if plan else ():
        key = str(board.wanted.build.get("build", "")) if board.wanted else ""
        path: Path = builds.path(key) / LOG
        if key and path.is_file():
            lines = path.read_text(errors="replace").splitlines()[-BUILD_LINES:]
            files[f"build/{board.name}.log"] = "\n".join(lines) + "\n"
    return files


def _versions() -> dict[str, str]:
    return {
        "fleetflash": __version__,
        "agent": agent_archive.archive().sha256[:12],
        "pyinfra": version("pyinfra"),
        "paramiko": version("paramiko"),
    }


def _environment() -> dict[str, str]:
    return {
        "controller": platform.node(),
        "controller os": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
        if _has_release()
        else "unknown",
        "controller kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "controller python": platform.python_version(),
        "controller python path": sys.executable,
    }


def _has_release() -> bool:
    return any(Path(path).is_file() for path in ("/etc/os-release", "/usr/lib/os-release"))
