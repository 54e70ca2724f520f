"""The types that controller and agent share, from and to plain JSON values."""

import dataclasses
import functools
from typing import Any, Dict, Tuple, Type, TypeVar, Union, get_type_hints

T = TypeVar("T")


class SchemaError(Exception):
    """A message lacks a field, or carries one of the wrong type."""


def to_json(value: Any) -> Any:
    """Return dataclasses as plain JSON values."""
    return dataclasses.asdict(value)


def from_json(kind: Type[T], value: Any, where: str = "") -> T:
    """Build ``kind`` from plain JSON values, checked field by field.

    Raises ``SchemaError`` naming the path of the field that is missing, unknown or of the wrong type.
    """
    return _build(kind, value, where or kind.__name__)  # type: ignore[no-any-return]


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin = getattr(kind, "__origin__", None)
    arguments: Tuple[Any, ...] = getattr(kind, "__args__", ())
    if kind is Any:
        return value
    if origin is Union:
        if value is None and type(None) in arguments:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _build(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SchemaError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r}")


@functools.lru_cache(maxsize=None)
def _hints(kind: Any) -> Dict[str, Any]:
    return get_type_hints(kind)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise SchemaError(f"{where}: expected an object, found {value!r}")
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise SchemaError(f"{where}: unknown field {unknown[0]!r}")
    built = {}
    for name, definition in fields.items():
        if name in value:
            built[name] = _build(hints[name], value[name], f"{where}.{name}")
        elif definition.default is dataclasses.MISSING and definition.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{where}: field {name!r} is missing")
    return kind(**built)
