"""How a board can be switched off and on, as the inventory says it."""

import shlex
from collections.abc import Mapping
from typing import Any

from fleetflash.agent.schema import Power

#: What each way may take, in seconds, unless ``seconds`` says so.
SECONDS = {"moonraker": 20.0, "command": 20.0, "person": 120.0}
_MOST = 600


def read_power(value: Any) -> Power | None:
    """Return ``power`` of a board; ``None`` for none. Raises ``ValueError``, in one line.

    One of ``{"moonraker": "device"}``, ``{"command": "program arguments"}``, which gets ``off`` or ``on`` as its last
    argument, and ``{"person": "what to switch"}``, each with ``seconds`` if it shall have other than the usual.
    """
    if value is None or isinstance(value, Power):
        return value
    ways = sorted(set(value) & set(SECONDS)) if isinstance(value, Mapping) else []
    if len(ways) != 1 or set(value) - {ways[0], "seconds"}:
        raise ValueError("expected one of 'moonraker', 'command' and 'person', and 'seconds' beside it if needed")
    way = ways[0]
    text, seconds = value[way], value.get("seconds", SECONDS[way])
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise ValueError(f"{way}: expected one line of text")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= _MOST:
        raise ValueError(f"seconds: expected seconds, more than 0 and {_MOST} at most")
    seconds = float(seconds)
    if way == "moonraker":
        return Power(device=text, seconds=seconds)
    if way == "person":
        return Power(gesture=text, seconds=seconds)
    try:
        return Power(command=shlex.split(text), seconds=seconds)
    except ValueError as error:
        raise ValueError(f"command: expected a program and its arguments, quoted as for a shell ({error})") from None
