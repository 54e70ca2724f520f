"""What has been seen of one rule, in a space that does not grow with the log."""

from typing import List, Optional, Sequence

from fleetflash.agent.acceptance.contract import Rule
from fleetflash.agent.acceptance.lines import Line
from fleetflash.agent.acceptance.matcher import Matcher, objection
from fleetflash.agent.acceptance.verdict import Evidence, Ruling


class Tally:
    """One rule. ``enough``: the line by which it had been seen often enough; ``wrong``: the one that breaks it.

    Lines that a rule requires count from the chip's last start on, since a start that was given up proves nothing;
    lines that it limits or measures count throughout.
    """

    def __init__(self, rule: Rule):
        self.rule = rule
        self.matcher = Matcher(rule.match)
        self.seen = 0
        self.total = 0
        self.enough: Optional[Evidence] = None
        self.early: Optional[Evidence] = None  # came before its turn in a sequence
        self.wrong: Optional[Evidence] = None
        self.objection = ""

    @property
    def wanted(self) -> bool:
        """Whether a line must come that has not come yet."""
        return self.enough is None and self.rule.least > 0

    @property
    def broken(self) -> bool:
        """Whether nothing that comes can mend it."""
        return self.wrong is not None or self._late()

    def _late(self) -> bool:
        seconds = self.enough.seconds if self.enough else None
        return seconds is not None and seconds > self.rule.within

    def hear(self, line: Line, seconds: Optional[float]) -> bool:
        """Look at a line; say whether it was meant."""
        if not self.matcher.meets(line):
            return False
        self.take(line, seconds)
        return True

    def take(self, line: Line, seconds: Optional[float]) -> None:
        """Count a line that is meant."""
        rule = self.rule
        self.seen += 1
        self.total += 1
        if self.wrong is None:
            if rule.most is not None and self.total > rule.most:
                self.objection = "must not come" if rule.most == 0 else f"came {self.total} times, {rule.most} allowed"
                self.wrong = Evidence.of(line, seconds)
            elif rule.value is not None and self.matcher.found is not None:
                self.objection = objection(rule.value, self.matcher.found)
                self.wrong = Evidence.of(line, seconds) if self.objection else None
        if self.seen == rule.least:
            self.enough = Evidence.of(line, seconds)

    def restart(self) -> None:
        """The chip starts anew."""
        self.seen = 0
        self.enough = self.early = None

    def rule_on(self, heard: str, timed: bool, before: str = "") -> Ruling:
        """Return the ruling at the end of the log.

        + heard: how much was listened to, for the reason
        + timed: whether the log tells times at all
        + before: the rule of the sequence whose line should have come before
        """
        rule, reason, evidence = self.rule, "", self.enough
        if self.wrong is not None:
            reason, evidence = self.objection, self.wrong
        elif self.enough is None and rule.least > 0:
            evidence = self.early
            if self.early is not None:
                reason = f"came without {before!r} before it"
            elif self.seen:
                reason = f"came {self.seen} times, {rule.least} expected, in {heard}"
            else:
                reason = f"never came in {heard}"
        elif self._late():
            reason = f"came too late: {rule.within:g} s allowed"
        elif rule.least > 0 and not timed:
            reason = f"the log tells no times, so nobody knows whether it came within {rule.within:g} s"
        return Ruling(rule.name, rule.line, not reason, reason, evidence)


class Group:
    """Rules that are judged together: those in any order, and sequences."""

    def __init__(self, rules: Sequence[Rule]):
        self.tallies = [Tally(rule) for rule in rules]
        self._free = [tally for tally in self.tallies if not tally.rule.sequence]
        numbers = sorted({rule.sequence for rule in rules} - {0})
        self._sequences = [[t for t in self.tallies if t.rule.sequence == number] for number in numbers]

    def hear(self, line: Line, seconds: Optional[float]) -> bool:
        """Look at a line; say whether it was meant by any rule."""
        meant = False
        for tally in self._free:
            meant |= tally.hear(line, seconds)
        for sequence in self._sequences:
            meant |= _hear_in_order(sequence, line, seconds)
        return meant

    def restart(self) -> None:
        for tally in self.tallies:
            tally.restart()

    @property
    def broken(self) -> bool:
        return any(tally.broken for tally in self.tallies)

    @property
    def wanted(self) -> List[Tally]:
        return [tally for tally in self.tallies if tally.wanted]

    def rule_on(self, heard: str, timed: bool) -> List[Ruling]:
        rulings = []
        before = {}
        for sequence in self._sequences:
            for place, tally in enumerate(sequence[1:]):
                before[id(tally)] = sequence[place].rule.name
        for tally in self.tallies:
            rulings.append(tally.rule_on(heard, timed, before.get(id(tally), "")))
        return rulings


def _hear_in_order(sequence: List[Tally], line: Line, seconds: Optional[float]) -> bool:
    turn = True
    for tally in sequence:
        if not tally.wanted:
            continue
        if tally.matcher.meets(line):
            if turn:
                tally.take(line, seconds)
                return True
            if tally.early is None:
                tally.early = Evidence.of(line, seconds)
        turn = False
    return False
