"""Which variant of its equipment a board has: what its data say, or what its log shows."""

from typing import Dict, List, Optional

from fleetflash.agent.acceptance.contract import Choice
from fleetflash.agent.acceptance.lines import Line
from fleetflash.agent.acceptance.matcher import Matcher
from fleetflash.agent.acceptance.tally import Group
from fleetflash.agent.acceptance.verdict import Evidence, Ruling


class Equipment:
    """One choice of a contract. ``told``: what the board's data say; empty where the log shall show it."""

    def __init__(self, choice: Choice, told: str):
        self.choice = choice
        self.told = told
        self.groups = {variant.name: Group(variant.rules) for variant in choice.variants}
        self._marks = {v.name: Matcher(v.shown_by) for v in choice.variants if v.shown_by is not None}
        self.shown: Dict[str, Evidence] = {}

    @property
    def variant(self) -> str:
        """The variant that is judged; empty while nobody knows it."""
        return self.told or (next(iter(self.shown)) if self.shown else "")

    @property
    def group(self) -> Optional[Group]:
        return self.groups.get(self.variant)

    @property
    def open(self) -> bool:
        """Whether a line must still come that says which variant it is."""
        return not self.variant

    @property
    def broken(self) -> bool:
        return self._contradiction() is not None or bool(self.group and self.group.broken)

    def hear(self, line: Line, seconds: Optional[float]) -> bool:
        """Look at a line; say whether it was meant by any rule, or shows a variant."""
        meant = False
        for name, mark in self._marks.items():
            if name not in self.shown and mark.meets(line):
                self.shown[name] = Evidence.of(line, seconds)
                meant = True
        for group in [self.groups[self.told]] if self.told else self.groups.values():
            meant |= group.hear(line, seconds)
        return meant

    def restart(self) -> None:
        self.shown.clear()
        for group in self.groups.values():
            group.restart()

    def _contradiction(self) -> Optional[str]:
        """Return the variant that the log shows although it is another one."""
        return next((name for name in self.shown if name != self.variant), None)

    def rule_on(self, heard: str, timed: bool) -> List[Ruling]:
        choice, name = self.choice, f"equipment {self.choice.equipment}"
        other = self._contradiction()
        if other is not None:
            by = "the board's data say" if self.told else f"line {self.shown[self.variant].number} shows"
            reason = f"{by} {self.variant}, but this line shows {other}"
            ruling = Ruling(name, choice.line, False, reason, self.shown[other])
        elif self.open:
            names = " or ".join(variant.name for variant in choice.variants)
            reason = f"nothing shows whether it is {names}, in {heard}; say it with the board's data"
            ruling = Ruling(name, choice.line, False, reason)
        else:
            evidence = self.shown.get(self.variant)
            late = not self.told and evidence and (evidence.seconds or 0.0) > choice.within
            reason = f"shown too late: {choice.within:g} s allowed" if late else ""
            ruling = Ruling(name, choice.line, not reason, reason, evidence)
        return [ruling, *(self.group.rule_on(heard, timed) if self.group else [])]
