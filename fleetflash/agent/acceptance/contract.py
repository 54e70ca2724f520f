"""A compiled contract: what a boot log must and must not say, as plain data that survives JSON.

It is written as YAML (``fleetflash.acceptance.contract_file``), compiled on the controller and judged wherever the log
is: ``line`` numbers are those of the YAML file, so that a verdict can point at the rule. All times are seconds since
the reset that the log begins with.
"""

from dataclasses import dataclass, field
from typing import List, Optional


@dataclass(frozen=True)
class Match:
    """Which lines are meant: those that hold ``text``, or in which the regular expression ``pattern`` is found.

    ``tag``, ``level`` (some of the letters EWIDV): only lines of ESP-IDF's log with them, of which only the message
    is looked at. All are empty where they don't matter.
    """

    text: str = ""
    pattern: str = ""
    tag: str = ""
    level: str = ""


@dataclass(frozen=True)
class Value:
    """What a group of a pattern must hold, in every line that matches.

    ``group``: its name or number. ``least``, ``most``: numbers, decimal or with 0x. ``one_of``: texts; empty: any.
    """

    group: str
    least: Optional[float] = None
    most: Optional[float] = None
    one_of: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """Lines that must come, or must not.

    ``least`` and ``most``: how many; ``most`` is ``None`` where more do no harm. ``within``: by when the ``least``-th
    must have come. ``sequence``: rules of the same number must be met in the order in which they stand, each on a line
    of its own; 0: in any order.
    """

    name: str
    match: Match
    line: int
    least: int = 1
    most: Optional[int] = None
    within: float = 0.0
    sequence: int = 0
    value: Optional[Value] = None


@dataclass(frozen=True)
class Variant:
    """What holds for one kind of equipment, as ``yes`` for an SD card that is there.

    ``shown_by``: the line by which a log shows that it is this one; ``None``: only the board's data can say so.
    """

    name: str
    line: int
    shown_by: Optional[Match]
    rules: List[Rule]


@dataclass(frozen=True)
class Choice:
    """Equipment that comes in variants; the board's data say which, or else the log shows it ``within`` that time."""

    equipment: str
    line: int
    variants: List[Variant]
    within: float = 0.0


#: What is done about a boot that was rejected, before the next attempt.
RESET, POWER_CYCLE = "reset", "power-cycle"


@dataclass(frozen=True)
class Retry:
    """How often a boot is tried that was rejected: ``attempts`` times in all, ``pause`` seconds after ``recovery``.

    Every attempt begins with a reset; ``power-cycle`` has the board switched off and on before that.
    """

    attempts: int = 1
    pause: float = 0.0
    recovery: str = RESET


@dataclass(frozen=True)
class Contract:
    """``settle``: for so long after the last line that must come, nothing may go wrong.

    ``restarts``: so many starts after the first are let pass.
    """

    file: str
    rules: List[Rule]
    choices: List[Choice]
    settle: float
    restarts: int = 0
    restarts_line: int = 0
    settle_line: int = 0
    retry: Retry = Retry()

    @property
    def all_rules(self) -> List[Rule]:
        """The rules of the contract and of all its variants."""
        return [*self.rules, *(rule for choice in self.choices for item in choice.variants for rule in item.rules)]

    @property
    def longest(self) -> float:
        """The longest time that one boot may take to be accepted, in seconds."""
        deadlines = [rule.within for rule in self.all_rules] + [choice.within for choice in self.choices]
        return max(deadlines, default=0.0) + self.settle
