"""The plan and the outcome of a run as a table: coloured on a terminal, plain aligned columns elsewhere."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetflash.report.columns import plain, print_columns, write_line

# Actions of a plan and results of a run: the words for the totals, in the order of interest, and the colour.
_OUTCOMES: dict[str, tuple[str, str]] = {
    "flash": ("to flash", "cyan"),
    "flashed": ("flashed", "green"),
    "back up": ("to back up", "cyan"),
    "backed-up": ("backed up", "green"),
    "known-good only": ("known-good only", "yellow"),
    "no backup": ("without a backup", "yellow"),
    "none": ("already current", "dim"),
    "current": ("already current", "dim"),
    "defer": ("deferred", "yellow"),
    "deferred": ("deferred", "yellow"),
    "hold": ("held", "yellow"),
    "held": ("held", "yellow"),
    "waiting": ("waiting for hands", "yellow"),
    "restored": ("failed and restored", "magenta"),
    "refuse": ("refused", "red"),
    "refused": ("refused", "red"),
    "failed": ("failed", "bold red"),
    "needs-attention": ("needs attention", "bold red"),
    "offline": ("offline", "red"),
}
# How a reason below the table begins, where the plan's word would not read well.
_REASONS = {"none": "current", "refuse": "refused", "defer": "deferred", "hold": "held"}

_NO_BOARD = "-"
# Klipper's own code: a row, and no board.
_HOST_CODE = "host code"
_NUMBERS = ("seconds", "downtime")
_PLAN = {
    "host": "HOST",
    "board": "BOARD",
    "port": "PORT",
    "chip": "CHIP",
    "uid": "UNIQUE ID",
    "running": "RUNNING",
    "wanted": "WANTED",
    "image": "IMAGE",
    "way_back": "WAY BACK",
    "backup": "BACKUP",
    "seconds": "SECONDS",
    "downtime": "DOWN",
    "outcome": "ACTION",
}
_RESULT = {
    "host": "HOST",
    "board": "BOARD",
    "wanted": "WANTED",
    "running": "RUNNING",
    "seconds": "SECONDS",
    "downtime": "DOWN",
    "outcome": "RESULT",
}
# What a narrow terminal does without, first the least needed; a pipe has every column.
_SPARE = ("uid", "port", "chip", "backup", "image", "way_back")
# Columns that stay whole when even that is not enough; the others fold.
_WHOLE = ("host", "board", "seconds", "downtime", "outcome")


@dataclass(frozen=True)
class Row:
    """One board of a plan or a run; a host that cannot be reached is one row with the board ``-``.

    ``seconds`` is the board's own time (expected or measured), ``downtime`` how long Klipper is or was stopped
    on its host. ``outcome`` is a plan's action (``flash``, ``none``, ``refuse``, ``defer``, ``hold``, ``waiting``,
    ``back up``, ``offline``) or a result (``flashed``, ``current``, ``refused``, ``deferred``, ``held``, ``waiting``,
    ``restored``, ``failed``, ``needs-attention``, ``backed-up``, ``known-good only``, ``no backup``, ``offline``).
    ``detail`` is the reason, of any length. ``backup`` says whether the old firmware can be read back. ``uid`` and
    ``place``: unique id and by-path name by which the board is known.
    """

    host: str
    board: str
    port: str
    chip: str
    running: str
    wanted: str
    image: str
    way_back: str
    seconds: float | None
    downtime: float | None
    outcome: str
    detail: str
    backup: str = ""
    uid: str = ""
    place: str = ""


def print_plan(rows: Sequence[Row], file: TextIO) -> None:
    """Print what would be done to each board, the reasons, and the totals."""
    _print(rows, _PLAN, file)


def print_outcomes(rows: Sequence[Row], file: TextIO) -> None:
    """Print what was done to each board, the reasons, and the totals."""
    _print(rows, _RESULT, file)


def totals(rows: Sequence[Row]) -> str:
    """Return e.g. ``8 boards: 6 flashed, 1 already current, 1 refused · Klipper down 14.2 s at most``."""
    boards = [row for row in rows if row.board not in (_NO_BOARD, _HOST_CODE)]
    text = _number(len(boards), "board") + _counted(boards)
    if code := [row for row in rows if row.board == _HOST_CODE]:
        text += f" · host code{_counted(code)}"
    if hosts := len({row.host for row in rows if row.board == _NO_BOARD}):
        text += f" · {_number(hosts, 'host')} offline"
    downtimes = [row.downtime for row in rows if row.downtime is not None]
    if any(downtimes):
        text += f" · Klipper down {max(downtimes):.1f} s at most"
    return text


def to_json(rows: Sequence[Row]) -> str:
    """Return ``{"rows": [each row's fields], "totals": {outcome: count}}``; offline hosts too."""
    return json.dumps({"rows": [asdict(row) for row in rows], "totals": _count(rows)}, indent=2)


def _print(rows: Sequence[Row], columns: dict[str, str], file: TextIO) -> None:
    # Not rich's own judgement, which FORCE_COLOR can turn: without a terminal there is no width to fold at.
    if file.isatty():
        _print_rich(rows, columns, file)
    elif rows:
        numbers = frozenset(index for index, field in enumerate(columns) if field in _NUMBERS)
        cells = [[_cell(row, field) for field in columns] for row in rows]
        print_columns(list(columns.values()), cells, file, numbers)
    if rows:
        write_line("", file)
    for row in rows:
        if row.detail.strip():
            write_line(_reason(row), file)
    write_line(totals(rows), file)


def _print_rich(rows: Sequence[Row], columns: dict[str, str], file: TextIO) -> None:
    if not rows:
        return
    console = Console(file=file, highlight=False)
    spare = [field for field in _SPARE if field in columns]
    shown = dict(columns)
    unbounded = console.options.update(width=100_000)
    while spare and console.measure(_rich_table(rows, shown), options=unbounded).maximum > console.width:
        del shown[spare.pop(0)]
    console.print(_rich_table(rows, shown))
    if hidden := [header.lower() for field, header in columns.items() if field not in shown]:
        console.print(Text(f"(not shown on a terminal of {console.width} columns: {', '.join(hidden)})", "dim"))


def _rich_table(rows: Sequence[Row], columns: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for field, header in columns.items():
        justify: Literal["left", "right"] = "right" if field in _NUMBERS else "left"
        table.add_column(header, justify=justify, no_wrap=field in _WHOLE, overflow="fold")
    for row in rows:
        # Text, not markup: a version may contain brackets.
        cells = {field: Text(plain(_cell(row, field))) for field in columns}
        cells["outcome"].stylize(_OUTCOMES.get(row.outcome, ("", ""))[1])
        table.add_row(*cells.values())
    return table


def _cell(row: Row, field: str) -> str:
    value = getattr(row, field)
    if field in _NUMBERS:
        return "" if value is None else f"{value:.1f}"
    return str(value)


def _reason(row: Row) -> str:
    who = row.host if row.board == _NO_BOARD else f"{row.host}/{row.board}"
    return f"{plain(who)}: {plain(_REASONS.get(row.outcome, row.outcome))}: {plain(row.detail)}"


def _counted(rows: Sequence[Row]) -> str:
    counts = ", ".join(f"{count} {_words(outcome)}" for outcome, count in _count(rows).items())
    return f": {counts}" if counts else ""


def _count(rows: Sequence[Row]) -> dict[str, int]:
    """Count outcomes, in the order of ``_OUTCOMES`` and then by name."""
    order = list(_OUTCOMES)
    counts = Counter(row.outcome for row in rows)
    known = sorted(counts, key=lambda o: (order.index(o) if o in order else len(order), o))
    return {outcome: counts[outcome] for outcome in known}


def _words(outcome: str) -> str:
    return _OUTCOMES.get(outcome, (plain(outcome), ""))[0]


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
