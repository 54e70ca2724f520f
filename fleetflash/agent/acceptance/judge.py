"""The judge: hears a log line by line, knows when enough was heard, and says why.

It does no I/O and keeps no log: memory is bounded by the contract, whatever the length of the log.
"""

from typing import Dict, List, Mapping, Optional

from fleetflash.agent.acceptance.clock import LogClock
from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.acceptance.equipment import Equipment
from fleetflash.agent.acceptance.lines import ROM, Line, is_greeting, stage
from fleetflash.agent.acceptance.panic import PanicRecorder
from fleetflash.agent.acceptance.tally import Group
from fleetflash.agent.acceptance.verdict import Evidence, Ruling, Verdict

#: A rejected boot is listened to so much longer, in seconds: what comes after the deciding line explains it.
AFTERMATH = 2.0
#: So many lines, what the buffers of a port may hold, can be left from before the reset.
_MOST_STALE_LINES = 200


class EquipmentError(Exception):
    """The board's data name equipment, or a variant, that the contract does not know. One line."""


def check_equipment(contract: Contract, equipment: Mapping[str, str]) -> None:
    """Raise ``EquipmentError`` unless the contract knows all of ``equipment``."""
    known = {choice.equipment: [variant.name for variant in choice.variants] for choice in contract.choices}
    for name, variant in equipment.items():
        if name not in known:
            there = ", ".join(known) or "none"
            raise EquipmentError(f"equipment {name!r}: {contract.file} has {there}; correct the name")
        if variant not in known[name]:
            there = " or ".join(known[name])
            raise EquipmentError(f"equipment {name} = {variant!r}: {contract.file} expects {there}")


class Judge:
    """Judges one boot. ``equipment``: what is known of the board; raises ``EquipmentError``."""

    def __init__(self, contract: Contract, equipment: Optional[Mapping[str, str]] = None):
        told = equipment or {}
        check_equipment(contract, told)
        self.contract = contract
        self.clock = LogClock()
        self._told = told
        self._panics = PanicRecorder()
        self._notes: List[str] = []
        self._lines = self._stale = 0
        self._starts = 0
        self._stage = 0
        self._last_start: Optional[Evidence] = None
        self._too_many: Optional[Evidence] = None
        self._begin()

    def _begin(self) -> None:
        self._rules = Group(self.contract.rules)
        self._equipment = [Equipment(c, self._told.get(c.equipment, "")) for c in self.contract.choices]
        self._panics = PanicRecorder()
        self._settled_from: Optional[float] = None  # when the last line that must come had come
        self._satisfied = False
        self._broken_at: Optional[float] = None

    # Hearing

    def hear(self, line: Line) -> None:
        """Take the next line."""
        self._lines = line.number
        found = stage(line)
        if found:
            self._start(found, line)
        elif not self._stage and not is_greeting(line):
            self._stale += 1
        seconds = self.clock.tell(line)
        if found and self._last_start is None:
            self._last_start = Evidence.of(line, seconds)
        self._panics.hear(line)
        meant = self._rules.hear(line, seconds)
        for equipment in self._equipment:
            meant |= equipment.hear(line, seconds)
        if meant or found:
            self._look(seconds)

    def _start(self, found: int, line: Line) -> None:
        former, self._stage = self._stage, found
        if former and found > former:
            return  # the next stage of the same start
        if not former and (found != ROM or self._stale <= _MOST_STALE_LINES):
            self._starts = 1
            if found == ROM and self._stale:
                # Said by what ran before the reset: it is neither to be praised nor to be blamed.
                self._notes.append(f"{self._stale} lines before the first reset are not judged")
                self._begin()
                self.clock = LogClock()
            return
        self._starts = max(self._starts, 1) + 1
        self.clock.restarted()
        self._last_start = Evidence.of(line, line.received if line.received is not None else self.clock.now)
        if self._starts - 1 > self.contract.restarts and self._too_many is None:
            self._too_many = self._last_start
        self._satisfied, self._settled_from = False, None
        self._rules.restart()
        for equipment in self._equipment:
            equipment.restart()

    def _look(self, seconds: Optional[float]) -> None:
        if not self._satisfied and self._all_there():
            self._satisfied, self._settled_from = True, seconds
        if self._broken_at is None and self._is_broken():
            self._broken_at = seconds

    def _all_there(self) -> bool:
        if self._rules.wanted:
            return False
        return not any(item.open or (item.group and item.group.wanted) for item in self._equipment)

    def _is_broken(self) -> bool:
        return self._too_many is not None or self._rules.broken or any(item.broken for item in self._equipment)

    # Knowing

    def done(self, seconds: float) -> bool:
        """Say whether enough was heard by now, which is so many seconds after the reset."""
        if self._broken_at is not None:
            return seconds >= self._broken_at + AFTERMATH
        if self._satisfied:
            return seconds >= (self._settled_from or 0.0) + self.contract.settle
        return seconds >= self._last_deadline()

    def _last_deadline(self) -> float:
        """When nothing can be accepted any more that has not been."""
        missing = [tally.rule.within for tally in self._rules.wanted]
        for item in self._equipment:
            if item.open:
                missing.append(item.choice.within)
            elif item.group:
                missing += [tally.rule.within for tally in item.group.wanted]
        return min(missing, default=0.0)

    def verdict(self, listened: Optional[float] = None) -> Verdict:
        """Return the verdict. ``listened``: for how many seconds from the reset on, where that is known."""
        if listened is not None:
            self.clock.pass_to(listened)
        now, timed = self.clock.now, self.clock.now is not None
        heard = f"{self._lines} lines" + ("" if now is None else f" and {now:.1f} s")
        rulings = [self._rule_on_restarts(), *self._rules.rule_on(heard, timed)]
        for item in self._equipment:
            rulings += item.rule_on(heard, timed)
        rulings.append(self._rule_on_settling(now))
        chosen: Dict[str, str] = {item.choice.equipment: item.variant for item in self._equipment}
        return Verdict(
            contract=self.contract.file,
            accepted=all(ruling.met for ruling in rulings),
            rulings=rulings,
            equipment=chosen,
            starts=self._starts,
            lines=self._lines,
            seconds=None if now is None else round(now, 3),
            panics=self._panics.panics,
            notes=self._notes,
        )

    def _rule_on_restarts(self) -> Ruling:
        name, line = "restarts", self.contract.restarts_line
        if self._too_many is None:
            return Ruling(name, line, True, evidence=self._last_start)
        reason = f"the chip restarted {self._starts - 1} times, {self.contract.restarts} allowed"
        return Ruling(name, line, False, reason, self._too_many)

    def _rule_on_settling(self, now: Optional[float]) -> Ruling:
        name, line, settle = "settle", self.contract.settle_line, self.contract.settle
        if not self._satisfied:
            return Ruling(name, line, False, "not all that must come has come")
        if settle <= 0:
            return Ruling(name, line, True)
        if now is None:
            return Ruling(name, line, False, f"the log tells no times, {settle:g} s expected after the last line")
        heard = now - (self._settled_from or 0.0)
        if heard >= settle:
            return Ruling(name, line, True)
        reason = f"listened for {heard:.1f} s after the last line that must come, {settle:g} s expected"
        return Ruling(name, line, False, reason)
