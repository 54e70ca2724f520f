"""A compiled match: is this line meant?"""

import re
from typing import Optional

from fleetflash.agent.acceptance.contract import Match, Value
from fleetflash.agent.acceptance.lines import Line

#: A number as firmware prints it.
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)")


class Matcher:
    """``found``: the match of the pattern in the line that was looked at last."""

    def __init__(self, match: Match):
        self._text = match.text
        self._pattern = re.compile(match.pattern) if match.pattern else None
        self._tag = match.tag
        self._level = match.level
        self._logged = bool(match.tag or match.level)
        self.found: Optional["re.Match[str]"] = None

    def meets(self, line: Line) -> bool:
        if self._logged:
            if not line.level or (self._tag and line.tag != self._tag):
                return False
            if self._level and line.level not in self._level:
                return False
        looked_at = line.message if self._logged else line.text
        if self._pattern is None:
            return self._text in looked_at
        self.found = self._pattern.search(looked_at)
        return self.found is not None


def objection(value: Value, found: "re.Match[str]") -> str:
    """Say why what a pattern has found is not what it must be; empty when it is."""
    text = found[int(value.group) if value.group.isdecimal() else value.group]
    if text is None:
        return f"the group {value.group} holds nothing"
    if value.one_of and text not in value.one_of:
        return f"found {text[:80]!r}, expected {' or '.join(map(repr, value.one_of))}"
    if value.least is None and value.most is None:
        return ""
    if not _NUMBER.fullmatch(text):
        return f"found {text[:80]!r}, expected a number"
    number = float(int(text, 16)) if "x" in text.lower() else float(text)
    if (value.least is None or number >= value.least) and (value.most is None or number <= value.most):
        return ""
    return f"found {text[:80]}, expected {describe_range(value)}"


def describe_range(value: Value) -> str:
    if value.least is None:
        return f"at most {value.most:g}"
    if value.most is None:
        return f"at least {value.least:g}"
    return f"{value.least:g} to {value.most:g}"
