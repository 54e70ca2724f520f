"""Takes secrets out of what is logged, shown and kept: those that are known, and what looks like one."""

import base64
import html
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from fleetflash.incident.secrets import NAMED, secret_values
from fleetflash.secret import NAME

if TYPE_CHECKING:
    from fleetflash.plan import HostPlan
    from fleetflash.report.table import Row

MARK = "[redacted]"
#: A shorter secret is replaced only where it stands alone: everywhere else it would be a part of ordinary words.
_SHORT = 4

_NAME = rf"[\w.-]*(?:{NAME})[\w.-]*"
#: A text that was cut off has no closing quote.
_VALUE = r"""(?:"(?:[^"\\\n]|\\.)+"?|'(?:[^'\\\n]|\\.)+'?|[^\s"'&,;}][^\n&,;}]*)"""
#: What looks like a secret, and what it becomes.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # PEM (RFC 7468, section 2); the end may have been cut off.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MARK),
    # JSON Web Tokens (RFC 7519, section 3): three parts, the first of which begins with {" in base64url.
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*"), MARK),
    # Credentials in a URL (RFC 3986, section 3.2.1). A user alone is one for HTTP, where it is a token, not for SSH.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s:@\"']*:[^/\s@\"']*@", re.IGNORECASE), rf"\1{MARK}@"),
    (re.compile(r"\b(https?://)[^/\s:@\"']+@", re.IGNORECASE), rf"\1{MARK}@"),
    # An HTTP header (RFC 9110, section 11.6.2).
    (re.compile(r"(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|digest)?\s*)[^\s\"']+", re.IGNORECASE),
     rf"\1{MARK}"),
    # name = value, "name": "value", ?name=value
    (re.compile(rf"({_NAME}[\"']?[ \t]*[:=][ \t]*){_VALUE}", re.IGNORECASE), rf"\1{MARK}"),
)  # fmt: skip


class Redactor:
    """Knows some secrets; ``values`` as in ``secret_values``."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        written = {form for value in values for form in _forms(value)}
        # A longer one first: it may begin with a shorter one.
        parts = [_literal(form) for form in sorted(written, key=lambda form: (-len(form), form))]
        self._known = re.compile("|".join(parts)) if parts else None

    @classmethod
    def of_hosts(cls, hosts: Iterable[Mapping[str, Any]]) -> "Redactor":
        """Return one that knows the secrets of all these hosts' data: what one host says may concern another."""
        return cls(value for data in hosts for value in secret_values(data))

    def text(self, text: str) -> str:
        """Return a text without secrets. It may have many lines."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def lines(self, lines: Iterable[str]) -> list[str]:
        """Return lines without secrets; one that spans several of them becomes one line."""
        return self.text("\n".join(lines)).split("\n")

    def plan(self, plan: "HostPlan") -> "HostPlan":
        """Return a plan whose reasons and notes may be shown: a mistake may have a secret beside it."""
        boards = tuple(replace(board, reason=self.text(board.reason)) for board in plan.boards)
        return replace(plan, boards=boards, notes=tuple(map(self.text, plan.notes)))

    def row(self, row: "Row") -> "Row":
        """Return a table's row without secrets."""
        texts: dict[str, Any] = {name: self.text(text) for name, text in vars(row).items() if isinstance(text, str)}
        return replace(row, **texts)

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets: by the names of its fields, and in every text of it.

        Other numbers stay: whoever gets the value reckons with them.
        """
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): MARK if item and _is_secret(str(key), item) else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        return value


class RedactingFilter(logging.Filter):
    """Takes secrets out of every record of a logger, of its traceback, too."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.redactor.text(record.getMessage()), None
        if record.exc_info:
            # A formatter takes this instead of making its own.
            record.exc_text = self.redactor.text(logging.Formatter().formatException(record.exc_info))
        return True


_redactors: dict[int, Redactor] = {}


def of_run(state: Any) -> Redactor:
    """Return the redactor of a pyinfra run, which knows the secrets of its whole inventory.

    From the first call on, pyinfra's log is without them, too.
    """
    if id(state) not in _redactors:
        redactor = Redactor.of_hosts(host.data.dict() for host in state.inventory)
        _redactors[id(state)] = redactor
        logging.getLogger("pyinfra").addFilter(RedactingFilter(redactor))
    return _redactors[id(state)]


def _is_secret(name: str, value: Any) -> bool:
    # A table of secrets is looked into field by field: their names are worth something.
    return not isinstance(value, (Mapping, bool)) and bool(NAMED.search(name))


def _forms(value: str) -> Iterator[str]:
    """Yield how a value may be written: as it is, in a URL, JSON, Python, HTML, base64 or hexadecimal."""
    encoded = value.encode()
    yield from (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
    if len(value) >= _SHORT:
        yield from (quote(value, safe=""), quote_plus(value), html.escape(value))
        yield from (base64.b64encode(encoded).decode().rstrip("="), encoded.hex(), encoded.hex().upper())


def _literal(form: str) -> str:
    found = re.escape(form)
    return found if len(form) >= _SHORT else rf"(?<!\w){found}(?!\w)"
