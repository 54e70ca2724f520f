"""A verdict as people read it: one line a rule, with the line of the log that decided it."""

from collections.abc import Sequence

from fleetflash.agent.acceptance.panic import Panic
from fleetflash.agent.acceptance.verdict import Ruling, Verdict
from fleetflash.report.columns import plain


def describe(verdict: Verdict, log: str, decoded: list[list[str]]) -> list[str]:
    """Return the lines of a report. ``decoded``: for each panic, its addresses as text."""
    word = "accepted" if verdict.accepted else "rejected"
    heard = f"{verdict.lines} lines" + (f", {verdict.seconds:.1f} s" if verdict.seconds is not None else "")
    starts = "1 start" if verdict.starts == 1 else f"{verdict.starts} starts"
    lines = [f"{log}: {word} by {verdict.contract} ({heard}, {starts})"]
    lines += [f"  equipment {name}: {variant or 'unknown'}" for name, variant in verdict.equipment.items()]
    lines += [f"  note: {note}" for note in verdict.notes]
    for ruling in verdict.rulings:
        lines += _rule(verdict, ruling)
    return lines + [f"  {line}" for line in describe_panics(verdict.panics, decoded)]


def describe_panics(panics: Sequence[Panic], decoded: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a report on panics. ``decoded``: for each, its addresses as text."""
    lines = []
    for panic, frames in zip(panics, decoded, strict=True):
        lines.append(f"panic in line {panic.number}: {plain(panic.lines[0])}")
        lines += [f"  {plain(frame)}" for frame in frames]
    return lines


def _rule(verdict: Verdict, ruling: Ruling) -> list[str]:
    where = f" ({verdict.contract}:{ruling.line})" if ruling.line and not ruling.met else ""
    reason = f": {plain(ruling.reason)}" if ruling.reason else ""
    text = f"  {'ok  ' if ruling.met else 'FAIL'} {plain(ruling.rule)}{where}{reason}"
    return [text, f"         {plain(str(ruling.evidence))}"] if ruling.evidence else [text]
