"""What Klipper's objects must say after a board was written, as the inventory says it."""

import math
from collections.abc import Mapping
from typing import Any

from fleetflash.agent.schema import ObjectCheck

#: How long klippy's objects are waited for once it is ready, in seconds, and the most that may be asked for.
CHECKS_SECONDS, _MOST = 30.0, 600
_FIELDS = {"object", "field", "equals", "min", "max"}


def read_checks(value: Any) -> tuple[ObjectCheck, ...]:
    """Return ``object_checks`` of a printer or a board; raises ``ValueError``, in one line that names the check.

    Each is e.g. ``{"object": "temperature_sensor ams", "field": "temperature", "min": 5, "max": 60}``, with either of
    the bounds or both, or ``{"object": "output_pin relay", "field": "value", "equals": 0}``.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError("expected a list of checks")
    return tuple(
        check if isinstance(check, ObjectCheck) else _read(check, f"check {number}")
        for number, check in enumerate(value, 1)
    )


def read_checks_of_host(data: Mapping[str, Any], has_klipper: bool) -> tuple[ObjectCheck, ...]:
    """Return the ``object_checks`` of a printer's own data; raises ``ValueError``, in one line."""
    try:
        checks = read_checks(data.get("object_checks", ()))
    except ValueError as error:
        raise ValueError(f"object_checks: {error}") from None
    if checks and not has_klipper:
        raise ValueError("object_checks: this host has no Klipper (klipper_service = None); leave them out")
    return checks


def read_checks_seconds(data: Mapping[str, Any]) -> float:
    """Return ``object_checks_seconds`` of a printer; raises ``ValueError``."""
    seconds = data.get("object_checks_seconds", CHECKS_SECONDS)
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds <= _MOST:
        raise ValueError(
            f"object_checks_seconds: expected seconds, more than 0 and {_MOST} at most, found {seconds!r:.40}"
        )
    return float(seconds)


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
