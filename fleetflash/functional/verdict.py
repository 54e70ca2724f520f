"""What an answer comes to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What was found, for a table; ``problem`` is empty when it is as expected."""

    found: str
    problem: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict on one thing, as it becomes a row: ``name`` as in ``can 0x351``, ``expected`` for a table."""

    name: str
    expected: str
    verdict: Verdict
