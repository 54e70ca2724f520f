"""Judges the frames of a bus: is each message there, at its period, with values that can be? Pure, bounded memory."""

from dataclasses import dataclass, field

from fleetflash.functional.can_database import CanDatabase, MessageType, SignalType
from fleetflash.functional.candump import Frame
from fleetflash.functional.description import CanCheck
from fleetflash.functional.errors import CheckDataError
from fleetflash.functional.verdict import Finding, Verdict

#: How many periods must be listened for before one can be told.
PERIODS = 3


@dataclass
class SignalSeen:
    """``missing``, ``outside``: the first line of the log in which it was, and ``outside`` with its value."""

    lowest: float | None = None
    highest: float | None = None
    missing: int | None = None
    outside: tuple[int, float] | None = None


@dataclass
class MessageSeen:
    """What is kept of a message's frames, however many there are; times as in ``Frame``."""

    type: MessageType
    period: float | None
    ranges: dict[str, tuple[float | None, float | None]]
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    longest: float = 0.0
    signals: dict[str, SignalSeen] = field(default_factory=dict)


class CanJudge:
    """Takes a bus's frames in the order of their times; raises ``CheckDataError`` when the DBC lacks what is asked."""

    def __init__(self, check: CanCheck, database: CanDatabase) -> None:
        self.check = check
        self.database = database
        self.begin: float | None = None
        self.end: float | None = None
        self.seen: dict[tuple[int, bool], MessageSeen] = {}
        for name, wanted in check.messages.items():
            found = database.message(name)
            known = {signal.name: (signal.low, signal.high) for signal in found.signals}
            if unknown := sorted(wanted.signals.keys() - known):
                raise CheckDataError(f"checks.can.messages.{name}: no signal {unknown[0]}; it has {', '.join(known)}")
            period = wanted.period or found.period
            self.seen[found.identifier, found.extended] = MessageSeen(found, period, {**known, **wanted.signals})

    def hear(self, frame: Frame) -> None:
        self.begin = frame.time if self.begin is None else self.begin
        self.end = frame.time
        seen = self.seen.get((frame.identifier, frame.extended))
        if seen is None:
            return
        seen.longest = max(seen.longest, frame.time - (seen.last if seen.count else self.begin))
        seen.first = seen.first if seen.count else frame.time
        seen.last = frame.time
        seen.count += 1
        self._hear_values(seen, frame)

    def _hear_values(self, seen: MessageSeen, frame: Frame) -> None:
        values = self.database.decode(frame.identifier, frame.extended, frame.data)
        for signal in seen.type.signals:
            found = seen.signals.setdefault(signal.name, SignalSeen())
            value = values.get(signal.name)
            if value is None:
                if signal.always and found.missing is None:
                    found.missing = frame.line
                continue
            found.lowest = value if found.lowest is None else min(found.lowest, value)
            found.highest = value if found.highest is None else max(found.highest, value)
            low, high = seen.ranges[signal.name]
            fits = (low is None or low <= value) and (high is None or value <= high)
            if not fits and found.outside is None:
                found.outside = (frame.line, value)

    def conclude(self, begin: float | None = None, end: float | None = None) -> list[Finding]:
        """Return what was found of every message, and of every signal of those that came.

        + begin, end: from when until when the bus was listened to, by the clock that stamped the frames; by default
          the first and the last frame of any kind
        """
        began = self.begin if begin is None else begin
        ended = self.end if end is None else end
        if began is None or ended is None:
            return [_silence(seen) for seen in self.seen.values()]
        findings = []
        for seen in self.seen.values():
            findings.append(self._presence(seen, began, ended))
            if seen.count:
                findings += [_values(seen, signal, self.check.optional) for signal in seen.type.signals]
        return findings

    def _presence(self, seen: MessageSeen, began: float, ended: float) -> Finding:
        name, period = _name(seen.type), seen.period
        expected = f"every {period:g} s ± {self.check.tolerance:.0%}" if period else "present"
        listened = ended - began
        if not seen.count:
            return Finding(name, expected, Verdict("absent", f"no such frame in {listened:.1f} s of other frames"))
        frames = "1 frame" if seen.count == 1 else f"{seen.count} frames"
        if not period:
            return Finding(name, expected, Verdict(frames))
        if listened < PERIODS * period:
            need = f"{PERIODS * period:g} s are needed to tell its period; listen for longer"
            return Finding(name, expected, Verdict(f"{frames} in {listened:.3f} s", need))
        longest = max(seen.longest, seen.first - began, ended - seen.last)
        mean = (seen.last - seen.first) / (seen.count - 1) if seen.count > 1 else longest
        found = f"{frames}, every {mean:.3f} s, {longest:.3f} s at most"
        if longest > self.check.longest * period:
            allowed = f"expected {self.check.longest * period:g} s at most"
            return Finding(name, expected, Verdict(found, f"absent for {longest:.3f} s, {allowed}"))
        if abs(mean - period) > self.check.tolerance * period:
            return Finding(name, expected, Verdict(found, f"it comes every {mean:.3f} s, expected {expected}"))
        return Finding(name, expected, Verdict(found))


def _name(message: MessageType) -> str:
    digits = f"{message.identifier:08X}" if message.extended else f"{message.identifier:03X}"
    return f"can 0x{digits}"


def _silence(seen: MessageSeen) -> Finding:
    problem = "no frame at all: is the bus up, at the right bit rate, and the gateway on it? ip -details link show"
    return Finding(_name(seen.type), "present", Verdict("silence", problem))


def _values(seen: MessageSeen, signal: SignalType, optional: tuple[str, ...]) -> Finding:
    low, high = seen.ranges[signal.name]
    found = seen.signals[signal.name]
    name = f"{_name(seen.type)} {signal.name}"
    expected = _with_unit(_range(low, high), signal.unit)
    if found.outside is not None:
        line, value = found.outside
        shown = _with_unit(f"{value:g}", signal.unit)
        return Finding(name, expected, Verdict(shown, f"{shown} at line {line}, expected {expected}"))
    if found.missing is not None and signal.name not in optional:
        problem = f"the frame at line {found.missing} is too short to hold it; or name it in optional"
        return Finding(name, expected, Verdict("missing", problem))
    if found.lowest is None or found.highest is None:
        return Finding(name, expected, Verdict("left out"))
    spread = f"{found.lowest:g}" if found.lowest == found.highest else f"{found.lowest:g} to {found.highest:g}"
    return Finding(name, expected, Verdict(_with_unit(spread, signal.unit)))


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "any value"
    if low is None:
        return f"{high:g} at most"
    return f"{low:g} at least" if high is None else f"{low:g} to {high:g}"


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {'°C' if unit == 'degC' else unit}".rstrip()
