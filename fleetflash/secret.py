"""A secret: a value that is used and never shown."""

import json
import re
import urllib.parse
from collections.abc import Iterable
from typing import NoReturn

#: What the name of data, of a configuration symbol or of a field sounds like whose value is a secret; of any case.
NAME = (
    r"passw|passphrase|secret|token|psk|credential|(?:private|api|ota).?key"
    r"|(?<![a-z])(?:pass|pw)(?![a-z])|_pwd(?![a-z])"
)
#: A URL with a password, which process lists and logs would show.
PASSWORD_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")
#: What is shorter can't be told from ordinary words, so it could not be taken out of a log.
SHORTEST = 8


class SecretError(Exception):
    """A secret can't be had, or can't be kept; ``str()`` never holds any of it."""


class Secret:
    """A named secret text; whatever shows it, shows its name. Raises ``SecretError`` for one that is too short."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        if len(value) < SHORTEST:
            raise SecretError(
                f"secret {name}: {len(value)} characters, expected at least {SHORTEST}, since a shorter one can't be "
                "taken out of logs; choose a longer one"
            )
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place where it is used."""
        return self._value

    def forms(self) -> frozenset[str]:
        """Return what the value may look like in a text: as it is, quoted for C, JSON, Python or a URL, and its lines.

        Lines count by themselves, since a log is read line by line.
        """
        found: set[str] = set()
        for text in {self._value, *self._value.splitlines()}:
            backslashed = text.replace("\\", "\\\\").replace('"', '\\"')
            found |= {text, backslashed, json.dumps(text)[1:-1], repr(text)[1:-1], urllib.parse.quote(text)}
        return frozenset(form for form in found if len(form) >= SHORTEST)

    def __repr__(self) -> str:
        return placeholder(self.name)

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return format(repr(self), specification)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be pickled")


def placeholder(name: str) -> str:
    """Return what stands for a secret wherever it is shown."""
    return f"<secret {name}>"


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """Return ``text`` with the name of each secret for all that its value may look like, the longest first."""
    names = {form: secret.name for secret in secrets for form in secret.forms()}
    if not names:
        return text
    longest_first = sorted(names, key=lambda form: (-len(form), form))
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: placeholder(names[found[0]]), text)
