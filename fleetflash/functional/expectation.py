"""What a value must be, and whether one is. Pure."""

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

#: What JSON has beside lists and objects (RFC 8259, section 3).
Scalar = str | bool | int | float | None
Number = Annotated[float, Field(allow_inf_nan=False)]


class Expectation(BaseModel):
    """A text, number or flag that is ``equals``, is ``one_of``, lies from ``min`` to ``max``, or matches ``pattern``.

    Of these at most one, but ``min`` and ``max`` go together; none means that there must be a value that is not null.
    ``pattern``: Python's, and the whole text must match. ``true`` is no number, and ``"1"`` is no 1.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    equals: Scalar = None
    one_of: tuple[Scalar, ...] = ()
    min: Number | None = None
    max: Number | None = None
    pattern: str = ""

    @field_validator("one_of", mode="before")
    @classmethod
    def _as_tuple(cls, values: Any) -> Any:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from None
        return pattern

    @model_validator(mode="after")
    def _one_kind(self) -> "Expectation":
        ranged = self.min is not None or self.max is not None
        if sum((self.equals is not None, bool(self.one_of), ranged, bool(self.pattern))) > 1:
            raise ValueError("expected one of equals, one_of, pattern, and min with max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def met_by(self, value: Any) -> bool:
        """Say whether a value is as expected; ``value``: as ``json.loads`` returns it."""
        if self.equals is not None:
            return _same(value, self.equals)
        if self.one_of:
            return any(_same(value, each) for each in self.one_of)
        if self.pattern:
            return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None
        if self.min is None and self.max is None:
            return value is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Not a number lies in no range, since no comparison with it is true.
        return (self.min is None or self.min <= value) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        if self.equals is not None:
            return shown(self.equals)
        if self.one_of:
            return " or ".join(map(shown, self.one_of))
        if self.pattern:
            return f"like {self.pattern}"
        if self.min is not None and self.max is not None:
            return f"{self.min:g} to {self.max:g}"
        if self.min is not None:
            return f"{self.min:g} at least"
        return f"{self.max:g} at most" if self.max is not None else "a value"


def shorthand(data: Any) -> Any:
    """Return the fields of an expectation for a bare value, which must be equal to it."""
    return {"equals": data} if isinstance(data, str | bool | int | float) else data


#: In an inventory, where a bare value means ``equals``.
Expected = Annotated[Expectation, BeforeValidator(shorthand)]


def shown(value: Any) -> str:
    """Return a value as a table shows it: JSON, but a text without its quotes unless it looks like something else."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)[:80]
    try:
        json.loads(value)
    except ValueError:
        return value[:80]
    return json.dumps(value, ensure_ascii=False)[:80]


def _same(found: Any, expected: Scalar) -> bool:
    return isinstance(found, bool) == isinstance(expected, bool) and bool(found == expected)
