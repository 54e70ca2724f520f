"""What a broker passed on, and whether a topic has been said what is expected. Pure."""

from dataclasses import dataclass

from fleetflash.functional.description import TopicCheck
from fleetflash.functional.document import DocumentError, read_document, told, unlike
from fleetflash.functional.expectation import Expectation
from fleetflash.functional.verdict import Verdict


@dataclass(frozen=True)
class Message:
    """``retained``: kept by the broker and sent for our subscription (MQTT 3.1.1, section 3.3.1.3)."""

    topic: str
    payload: bytes
    retained: bool


def matches(pattern: str, topic: str) -> bool:
    """Say whether a topic filter covers a topic (MQTT 3.1.1, section 4.7)."""
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    wanted, levels = pattern.split("/"), topic.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(levels) or level not in ("+", levels[number]):
            return False
    return len(wanted) == len(levels)


def expected_text(check: TopicCheck) -> str:
    """Return what a check expects, for a table."""
    parts = [f"{'retained' if check.retained else 'said'} in {check.within:g} s"]
    parts += [str(check.payload)] if check.payload else []
    return ", ".join([*parts, *(f"{path} = {expectation}" for path, expectation in check.fields.items())])


def judge_message(check: TopicCheck, message: Message) -> Verdict | None:
    """Judge a message; ``None``: it is none that the check waits for."""
    if not matches(check.topic, message.topic) or message.retained != check.retained:
        return None
    text = message.payload.decode(errors="replace")
    if check.payload is not None and not check.payload.met_by(_value(text, check.payload)):
        return Verdict(text[:60] or "nothing", f"{message.topic}: {text[:80]!r}")
    if not check.fields:
        return Verdict(text[:60] or "nothing")
    try:
        document = read_document(message.payload)
    except DocumentError as error:
        return Verdict("no JSON", f"{message.topic}: {error}")
    if problems := list(unlike(document, check.fields)):
        return Verdict(", ".join(problems), f"{message.topic}: {', '.join(problems)}")
    return Verdict(told(document, check.fields))


def _value(text: str, expectation: Expectation) -> str | float:
    """Return a payload as what it is compared with: a text, unless a range is asked for."""
    if expectation.min is None and expectation.max is None:
        return text
    try:
        return float(text)
    except ValueError:
        return text
