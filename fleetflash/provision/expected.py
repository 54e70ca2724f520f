"""What a host is expected to have, in words that the agent checks all at once (``fleetflash.agent.expected``)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expected:
    """One thing; ``text``: the agent's JSON of it."""

    text: str

    def to_json(self) -> dict[str, Any]:
        return dict(json.loads(self.text))


def packages(names: Sequence[str]) -> Expected:
    """All of these Debian packages are installed."""
    return _expected("packages", names=[name.split(":")[0] for name in names])


def account(user: str, home: str, groups: Sequence[str]) -> Expected:
    """The user lives there, and is in all of these groups."""
    return _expected("account", user=user, home=home, groups=list(groups))


def file(path: str, content: str, owner: str, mode: str) -> Expected:
    """There is a file of this content; its group is called as its owner. ``mode``: octal digits."""
    return _expected("file", path=path, sha256=hashlib.sha256(content.encode()).hexdigest(), owner=owner, mode=mode)


def folder(path: str, owner: str, mode: str) -> Expected:
    return _expected("folder", path=path, owner=owner, mode=mode)


def present(path: str) -> Expected:
    """There is a file, whatever is in it."""
    return _expected("present", path=path)


def line(path: str, begins: str) -> Expected:
    """There is a file with a line that begins so."""
    return _expected("line", path=path, begins=begins)


def service(unit: str) -> Expected:
    """It is enabled and runs, and nothing under it was changed since it was started."""
    return _expected("service", unit=unit)


def _expected(kind: str, **facts: object) -> Expected:
    return Expected(json.dumps({"kind": kind, **facts}, sort_keys=True))
