"""One thing that was looked at: what it should be, what it is, and what follows; and all of them as a table."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TextIO

from fleetflash.report.columns import plain, print_columns, write_line


class Result(StrEnum):
    """``failed``: could not be looked at, or can't be as declared; ``skipped``: says nothing, for the reason given."""

    OK = "ok"
    DRIFT = "drift"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """``board``: ``-`` for the host itself; ``host``: ``-`` for this computer. ``detail``: what to do, or why."""

    host: str
    board: str
    name: str
    expected: str
    found: str
    result: Result
    detail: str = ""


#: Exit codes as those of ``fleetflash plan``: 2 something has drifted, 3 something can't be looked at or done.
OK, DRIFT, FAILED = 0, 2, 3


def compared(host: str, board: str, name: str, expected: str, found: str, detail: str = "") -> Check:
    """Return a check that is fine when both are equal; ``detail`` is said only when they are not."""
    same = expected == found
    return Check(host, board, name, expected, found, Result.OK if same else Result.DRIFT, "" if same else detail)


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 only when nothing has drifted or failed, and something was looked at."""
    results = {check.result for check in checks}
    if Result.FAILED in results or not results - {Result.SKIPPED}:
        return FAILED
    return DRIFT if Result.DRIFT in results else OK


def print_checks(checks: Sequence[Check], file: TextIO) -> None:
    """Print all checks, then the reasons of those that are not fine, and the totals."""
    rows = [(c.host, c.board, c.name, c.expected, c.found, c.result.value) for c in checks]
    if rows:
        print_columns(("HOST", "BOARD", "CHECK", "EXPECTED", "FOUND", "RESULT"), rows, file)
        write_line("", file)
    for check in checks:
        if check.result is not Result.OK:
            where = "/".join(part for part in (check.host, check.board) if part != "-") or "here"
            why = check.detail or f"found {check.found}, expected {check.expected}"
            write_line(f"{plain(where)}: {check.name}: {check.result}: {plain(why)}", file)
    counts = Counter(check.result for check in checks)
    told = ", ".join(f"{counts[result]} {result}" for result in Result if counts[result])
    write_line(f"{len(checks)} checks: {told}" if checks else "nothing to check: the inventory has no such host", file)


def to_json(checks: Sequence[Check]) -> str:
    """Return ``{"checks": [each one's fields], "exit_code": as of the process}``."""
    return json.dumps({"checks": [asdict(check) for check in checks], "exit_code": exit_code(checks)}, indent=2)
