"""What a gateway's web server answered, and whether that is as expected. Pure."""

from dataclasses import dataclass

from fleetflash.functional.description import HttpCheck
from fleetflash.functional.document import DocumentError, read_document, told, unlike
from fleetflash.functional.verdict import Verdict


@dataclass(frozen=True)
class HttpAnswer:
    """``content``: decoded from its transfer coding, as long as it was read; ``complete``: whether that is all."""

    status: int
    content: bytes
    complete: bool = True


def expected_text(check: HttpCheck) -> str:
    """Return what a check expects, for a table."""
    parts = [str(check.status)]
    parts += [f"{path} = {expectation}" for path, expectation in check.fields.items()]
    return ", ".join([*parts, *([f"with {check.contains[:40]!r}"] if check.contains else [])])


def judge_answer(check: HttpCheck, answer: HttpAnswer) -> Verdict:
    """Judge an answer: status (RFC 9110, section 15), then the text in it, then its fields."""
    if answer.status != check.status:
        return Verdict(str(answer.status), f"{check.url} answered with status {answer.status}")
    found = [str(answer.status)]
    if check.contains:
        if check.contains.encode() not in answer.content:
            return Verdict(f"{answer.status}, without that text", f"{check.contains[:60]!r} is not in {check.url}")
        found.append(f"with {check.contains[:40]!r}")
    if not check.fields:
        return Verdict(", ".join(found))
    if not answer.complete:
        return Verdict(f"{answer.status}, too long", f"{check.url} answered with more than {len(answer.content)} bytes")
    try:
        document = read_document(answer.content)
    except DocumentError as error:
        return Verdict(f"{answer.status}, no JSON", f"{check.url}: {error}")
    if problems := list(unlike(document, check.fields)):
        return Verdict(", ".join([str(answer.status), *problems]), f"{check.url}: {', '.join(problems)}")
    return Verdict(", ".join([*found, told(document, check.fields)]))
