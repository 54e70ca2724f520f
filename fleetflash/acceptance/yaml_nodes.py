"""YAML read by hand, field by field, so that every error has the line where it is.

Scalars are taken as they are written: ``yes`` is the word, whatever version of YAML thinks of it.
"""

import re
from pathlib import Path
from typing import NoReturn

import yaml

from fleetflash.acceptance.errors import ContractError

#: A contract is written by people; what is larger is none. In bytes.
MOST_BYTES = 1 << 20
_SECONDS = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|min)?")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}


class Node:
    """One node of a file."""

    def __init__(self, file: str, node: yaml.Node):
        self.file = file
        self._node = node

    @classmethod
    def read(cls, path: Path) -> "Node":
        """Return the one document of a file; raises ``ContractError``."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ContractError(f"{path}: {error.strerror}") from None
        if len(data) > MOST_BYTES:
            raise ContractError(f"{path}: {len(data)} bytes are no contract; {MOST_BYTES} are allowed")
        try:
            found = yaml.compose(data, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise ContractError(f"{path}:{line}: {error.problem or error.context}") from None
        except yaml.reader.ReaderError as error:
            # For text that it could decode the position counts characters, else bytes; a line end is one of either.
            line = data[: int(error.position)].count(b"\n") + 1
            raise ContractError(f"{path}:{line}: a character that no YAML text may hold ({error.reason})") from None
        except RecursionError:
            raise ContractError(f"{path}:1: nested too deeply") from None
        if found is None:
            raise ContractError(f"{path}:1: the file is empty; see docs/acceptance.md")
        return cls(str(path), found)

    @property
    def line(self) -> int:
        return int(self._node.start_mark.line) + 1

    def refuse(self, problem: str) -> NoReturn:
        """Raise ``ContractError`` for this place."""
        raise ContractError(f"{self.file}:{self.line}: {problem}")

    @property
    def is_text(self) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag != "tag:yaml.org,2002:null"

    def fields(self, what: str, known: tuple[str, ...] = ()) -> dict[str, "Node"]:
        """Return the fields of a mapping by name. ``known``: the only ones that may be there; empty: any word."""
        if not isinstance(self._node, yaml.MappingNode):
            self.refuse(f"{what}: expected fields, found {self._shown()}")
        found: dict[str, Node] = {}
        for key_node, value in self._node.value:
            key = Node(self.file, key_node)
            name = key.text("a field's name")
            if known and name not in known:
                hint = "" if name.isidentifier() else "; text that holds a colon needs quotes"
                key.refuse(f"{what}: {name!r} is none of {', '.join(known)}{hint}")
            if name in found:
                key.refuse(f"{what}: {name} is there twice, first in line {found[name].line}")
            found[name] = Node(self.file, value)
        return found

    def items(self, what: str) -> list["Node"]:
        if not isinstance(self._node, yaml.SequenceNode):
            self.refuse(f"{what}: expected a list, found {self._shown()}")
        return [Node(self.file, item) for item in self._node.value]

    def text(self, what: str) -> str:
        if not self.is_text or not self._node.value:
            self.refuse(f"{what}: expected text, found {self._shown()}")
        return str(self._node.value)

    def number(self, what: str) -> float:
        text = self.text(what)
        try:
            return float(int(text, 16)) if text.lower().lstrip("+-").startswith("0x") else self._finite(float(text))
        except ValueError:
            self.refuse(f"{what}: expected a number, found {text!r:.60}")

    def count(self, what: str, least: int, most: int) -> int:
        text = self.text(what)
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            self.refuse(f"{what}: expected a whole number from {least} to {most}, found {text!r:.60}")
        return int(text)

    def seconds(self, what: str) -> float:
        """Return a time such as ``500 ms``, ``20 s``, ``1 min`` or ``20``, which is in seconds."""
        found = _SECONDS.fullmatch(self.text(what))
        if not found or (value := float(found[1]) * _UNITS[found[2] or "s"]) > 3600:
            found_text = f"{self._node.value!r:.60}"
            self.refuse(f"{what}: expected a time such as 500 ms or 20 s, an hour at most, found {found_text}")
        return value

    @staticmethod
    def _finite(value: float) -> float:
        if value - value != 0:
            raise ValueError("not finite")
        return value

    def _shown(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "fields"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        return f"{self._node.value!r:.60}" if self._node.value else "nothing"
