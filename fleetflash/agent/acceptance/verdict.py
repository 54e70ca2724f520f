"""What the judge says of one boot: each rule, and the line that decided it."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from fleetflash.agent.acceptance.lines import Line
from fleetflash.agent.acceptance.panic import Panic

#: More characters of a line than this are not shown.
MOST_CHARACTERS = 200


@dataclass(frozen=True)
class Evidence:
    """A line of the log. ``seconds``: since the reset; ``None`` where the log tells no time up to there."""

    number: int
    text: str
    seconds: Optional[float] = None

    @classmethod
    def of(cls, line: Line, seconds: Optional[float]) -> "Evidence":
        shown = line.text if len(line.text) <= MOST_CHARACTERS else line.text[: MOST_CHARACTERS - 1] + "…"
        return cls(line.number, shown, None if seconds is None else round(seconds, 3))

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:.3f} s"
        return f"line {self.number}{when}: {self.text}"


@dataclass(frozen=True)
class Ruling:
    """``rule``: its name. ``line``: where the contract says it (0: nowhere). ``reason``: empty when it is met.

    ``evidence``: the line that decided; ``None`` where a line is missing.
    """

    rule: str
    line: int
    met: bool
    reason: str = ""
    evidence: Optional[Evidence] = None


@dataclass(frozen=True)
class Verdict:
    """``equipment``: which variant was judged. ``starts``: of the chip, as far as it says so.

    ``lines``, ``seconds``: how much of a log was heard.
    """

    contract: str
    accepted: bool
    rulings: List[Ruling]
    equipment: Dict[str, str]
    starts: int
    lines: int
    seconds: Optional[float]
    panics: List[Panic] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    @property
    def broken(self) -> List[Ruling]:
        return [ruling for ruling in self.rulings if not ruling.met]

    def summary(self) -> str:
        """Return in one line why the boot is rejected; empty when it is accepted.

        What went wrong first explains what came of it; only then what is missing.
        """
        broken = sorted(self.broken, key=lambda ruling: (ruling.evidence is None, _number(ruling)))
        if not broken:
            return ""
        first = broken[0]
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        shown = f"; {first.evidence}" if first.evidence else ""
        where = f"{self.contract}:{first.line}" if first.line else self.contract
        return f"{first.rule!r} ({where}): {first.reason}{shown}{more}"


def _number(ruling: Ruling) -> int:
    return ruling.evidence.number if ruling.evidence else 0
