"""What most likely went wrong, in one paragraph with the next thing to do. Pure: reads what was gathered."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetflash.incident.causes import CAUSES, SIGNS, Cause

#: What a transaction was at, by the last step in its journal.
STEPS = {
    "begin": "the host was checked once more",
    "prepared": "the host code was prepared",
    "guarded": "the guard was raised",
    "stopping": "Klipper was being stopped",
    "stopped": "Klipper was stopped",
    "checkout": "Klipper's own code was moved",
    "checked-out": "Klipper's own code had been moved",
    "entering": "the board was brought into its bootloader",
    "hands": "somebody was asked to press its button",
    "reading": "its old firmware was read back",
    "backed-up": "its old firmware had been read back",
    "writing": "it was written",
    "verified": "it had been written and verified, and was started",
    "restoring": "its former firmware was written back",
    "starting": "Klipper was started",
    "checking": "klippy was asked what runs",
    "not-ready": "klippy was asked what runs",
    "ready": "klippy's answer was compared",
    "power-cycling": "the board was switched off and on again",
    "checking-objects": "klippy's objects were asked",
}
UNKNOWN = "unknown"
#: A host's clock and its kernel's log may differ by this much, in seconds.
_SLACK = 5.0


@dataclass(frozen=True)
class Diagnosis:
    """``step``: of ``STEPS``, or empty. ``cause``: a cause's name, or ``unknown``. ``text``: the paragraph."""

    step: str
    cause: str
    text: str
    next: str


def diagnose(
    host: str,
    outcome: Mapping[str, Any],
    journal: Sequence[Mapping[str, Any]] = (),
    logs: Mapping[str, Sequence[str]] | None = None,
) -> Diagnosis:
    """Say what went wrong on a host.

    + outcome: the agent's, with ``outcome``, ``detail`` and ``boards``
    + journal: the transaction's steps; without them, the step is not known
    + logs: name → lines, as in ``schema.Evidence``
    """
    board, error = _failure(outcome, journal)
    step = _step(board, journal)
    cause, found = _cause(error)
    words = _Blanks({"host": host, "board": board or "the board", **found})
    seconds = _seconds(journal, board)
    where = f"{host}/{board}" if board else host
    began = f"{where} failed"
    if step:
        began += f" while {STEPS[step]}" + (f", {seconds:.1f} s after the transaction began" if seconds else "")
    parts = [f"{began}: {_sentence(error or str(outcome.get('outcome', 'no reason was given')))}"]
    action = "Read the journal and the logs in this bundle; run again when the cause is out of the way."
    if cause is not None:
        parts.append(cause.says.format_map(words))
        action = cause.next.format_map(words)
    since = float(journal[0].get("time", 0.0)) if journal else 0.0
    for sign, line in _signs(logs or {}, since, cause.name if cause else UNKNOWN):
        parts.append(sign.says.format_map(_Blanks({**words, "line": line})))
        action = f"{sign.next} {action}"
    parts.append(_state(outcome))
    return Diagnosis(step, cause.name if cause else UNKNOWN, " ".join(filter(None, parts)), action)


class _Blanks(dict[str, str]):
    """What a pattern did not find reads as unknown."""

    def __missing__(self, key: str) -> str:
        return UNKNOWN


def _failure(outcome: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the board that failed first, empty when it was none's fault, and what was said of it."""
    for entry in journal:
        if entry.get("step") == "failed":
            return str(entry.get("board", "")), str(entry.get("error", ""))
    boards = outcome.get("boards", {})
    for name, result in boards.items():
        if result.get("detail"):
            return str(name), str(result["detail"])
    return "", str(outcome.get("detail", ""))


def _step(board: str, journal: Sequence[Mapping[str, Any]]) -> str:
    """Return the last step before the failure that says what was being done: the board's own, or the host's."""
    last = ""
    for entry in journal:
        step = str(entry.get("step"))
        if step in ("failed", "given-up", "settling", "end"):
            break
        if step in STEPS and (not board or entry.get("board", board) == board):
            last = step
    return last


def _seconds(journal: Sequence[Mapping[str, Any]], board: str) -> float:
    """Return the seconds from the beginning to the failure, by the clock of one boot; 0 when nobody can know."""
    failed = [entry for entry in journal if entry.get("step") == "failed" and entry.get("board", "") == board]
    if not failed or failed[0].get("boot") != journal[0].get("boot"):
        return 0.0
    return max(0.0, float(failed[0].get("monotonic", 0.0)) - float(journal[0].get("monotonic", 0.0)))


def _cause(error: str) -> tuple[Cause | None, dict[str, str]]:
    for cause in CAUSES:
        if found := re.search(cause.pattern, error, re.IGNORECASE):
            return cause, {name: value or UNKNOWN for name, value in found.groupdict().items()}
    return None, {}


def _signs(logs: Mapping[str, Sequence[str]], since: float, cause: str) -> list[tuple[Cause, str]]:
    """Return the signs in the logs from ``since`` (seconds since 1970) on, each with the last line that shows it."""
    found = []
    for sign in SIGNS:
        if sign.only and cause not in sign.only:
            continue
        lines = [line for line in logs.get(sign.log, ()) if re.search(sign.pattern, line, re.IGNORECASE)]
        lines = [line for line in lines if not since or _moment(line) >= since - _SLACK]
        if lines:
            found.append((sign, lines[-1].strip()[:160]))
    return found


def _moment(line: str) -> float:
    """Return when a line of a log was written, as journalctl's short-iso has it; one without a time counts as now."""
    try:
        return datetime.fromisoformat(line.split(" ", 1)[0]).timestamp()
    except ValueError:
        return float("inf")


def _state(outcome: Mapping[str, Any]) -> str:
    """Say how it stands now."""
    results: dict[str, list[str]] = {}
    for name, result in outcome.get("boards", {}).items():
        results.setdefault(str(result.get("result", "")), []).append(str(name))
    words = {
        "restored": "runs its former firmware again",
        "needs-attention": "needs a person: nothing writes to it until fleetflash board clear",
        "flashed": "runs its new firmware",
        "failed": "was not written",
    }
    sentences = [f"{', '.join(names)} {words[result]}." for result, names in results.items() if result in words]
    if downtime := outcome.get("downtime"):
        sentences.append(f"Klipper was down {downtime:.1f} s.")
    return " ".join(sentences)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
