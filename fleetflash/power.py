"""How a board can be switched off and on, as the inventory says it."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
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


def usable(power: Power | None, attended: bool, port: int) -> Power | None:
    """Return a board's power as a run can use it: a person only where somebody is there.

    ``port``: of the host's Moonraker, 0 for none. Raises ``ValueError`` where a device of Moonraker is named then.
    """
    if power is None or (power.gesture and not attended):
        return None
    if power.device and not port:
        raise ValueError("power: this host has no Moonraker (moonraker_port = 0); name a command or a person")
    return replace(power, port=port) if power.device else power


def moonraker_port(data: Mapping[str, Any]) -> int:
    """Return where a host's Moonraker listens; 0 where it does not, or where that is malformed, which others refuse."""
    port = data.get("moonraker_port", Power().port)
    return port if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536 else 0
