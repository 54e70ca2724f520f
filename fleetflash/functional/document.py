"""What a gateway says in JSON, field by field. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fleetflash.functional.expectation import Expectation, shown


class DocumentError(Exception):
    """No JSON, or not one that has such a field. One line."""


def read_document(content: bytes) -> Any:
    """Return the value of a JSON text (RFC 8259); raises ``DocumentError`` that shows how it begins."""
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError):
        # UnicodeDecodeError and JSONDecodeError are both ValueErrors.
        raise DocumentError(f"no JSON: {content[:40].decode(errors='replace')!r}") from None


def field(document: Any, path: str) -> Any:
    """Return the value at ``battery.cells.0.voltage``: names of objects' members and indices of lists.

    Raises ``DocumentError`` that names the part of the path at which there is nothing.
    """
    found, way = document, ""
    for part in path.split("."):
        way = f"{way}.{part}" if way else part
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise DocumentError(f"no field {way}")
    return found


def unlike(document: Any, expected: Mapping[str, Expectation]) -> Iterator[str]:
    """Yield what is not as expected, one line a field."""
    for path, expectation in expected.items():
        try:
            found = field(document, path)
        except DocumentError as error:
            yield str(error)
            continue
        if not expectation.met_by(found):
            yield f"{path} = {shown(found)}"


def told(document: Any, expected: Mapping[str, Expectation]) -> str:
    """Return the looked at fields and their values, for a table; raises ``DocumentError``."""
    return ", ".join(f"{path} = {shown(field(document, path))}" for path in expected)
