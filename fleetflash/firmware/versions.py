"""Firmware versions and pins: opaque strings such as ``v0.12.0-120-gabcdef12``, compared for equality."""

import re

from fleetflash.firmware.errors import PinError

_BY_ID = re.compile(r"sha256:([0-9a-f]{8,64})")


def check_pin(value: object) -> str:
    """Return a firmware pin that is a string, or raise ``PinError`` that shows how to quote it.

    Numbers are refused, because reading them has already lost what was written: ``0.10`` became ``0.1`` and
    a commit such as ``1e999`` became infinity.
    """
    if isinstance(value, str):
        if value and value == value.strip() and value.isprintable():
            return value
        raise PinError(
            f"the firmware pin {value!r} is empty or has blanks or control characters; "
            "give the version as the firmware reports it"
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Infinity, NaN and huge integers (which Python refuses to print) are not what anybody wrote.
        writable = abs(value) < 1e30
        shown = repr(value) if writable else "0.12"
        raise PinError(
            f"the firmware pin was read as the number {shown if writable else 'inf'}, expected a string; "
            f"quote it exactly as it was written: "
            f'--data firmware_version=\'"{shown}"\' or, in Python, firmware_version = "{shown}"'
        )
    raise PinError(
        f"the firmware pin is {value!r} ({type(value).__name__}), expected a string: "
        '--data firmware_version=\'"v0.12.0"\' or, in Python, firmware_version = "v0.12.0"'
    )


def pinned_id(pin: str) -> str | None:
    """Return the artifact id, or its beginning, of a pin such as ``sha256:1f2e3d4c``, else ``None``."""
    match = _BY_ID.fullmatch(pin)
    return match[1] if match else None
