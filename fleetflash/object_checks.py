"""What Klipper's objects must say after a board was written, as the inventory says it."""

import math
from collections.abc import Mapping
from typing import Any

from fleetflash.agent.schema import ObjectCheck

_FIELDS = {"object", "field", "equals", "min", "max"}


def read_checks(value: Any) -> tuple[ObjectCheck, ...]:
    """Return ``checks`` of a printer or a board; raises ``ValueError``, in one line that names the check.

    Each is e.g. ``{"object": "temperature_sensor ams", "field": "temperature", "min": 5, "max": 60}``, with either of
    the bounds or both, or ``{"object": "output_pin relay", "field": "value", "equals": 0}``.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError("expected a list of checks")
    return tuple(
        check if isinstance(check, ObjectCheck) else _read(check, f"check {number}")
        for number, check in enumerate(value, 1)
    )


def _read(value: Any, where: str) -> ObjectCheck:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a dictionary with 'object', 'field' and what it must be")
    unknown = sorted(str(key) for key in set(value) - _FIELDS)
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} is no field of a check")
    for name in ("object", "field"):
        if not isinstance(value.get(name), str) or not value[name].strip() or not value[name].isprintable():
            raise ValueError(f"{where}: {name}: expected text, found {value.get(name)!r:.40}")
    bounds = {name: value[name] for name in ("min", "max") if name in value}
    if ("equals" in value) == bool(bounds):
        raise ValueError(f"{where} of {value['object']}: expected either 'equals', or 'min' or 'max' or both")
    for name, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
            raise ValueError(f"{where} of {value['object']}: {name}: expected a number, found {bound!r:.40}")
    if len(bounds) == 2 and bounds["min"] > bounds["max"]:
        raise ValueError(f"{where} of {value['object']}: min {bounds['min']} is more than max {bounds['max']}")
    equals = value.get("equals")
    endless = isinstance(equals, float) and not math.isfinite(equals)
    if endless or not isinstance(equals, (str, bool, int, float, type(None))):
        raise ValueError(f"{where} of {value['object']}: equals: expected a number, text, True, False or None")
    return ObjectCheck(value["object"], value["field"], equals, bounds.get("min"), bounds.get("max"))
