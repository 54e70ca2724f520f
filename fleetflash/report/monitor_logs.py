"""Boot logs of gateways, kept on the controller once their transaction is over."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = "FLEETFLASH_LOGS"
#: What an agent calls them; nothing else gets a file of its own here.
_NAME = re.compile(r"monitor-[A-Za-z0-9][A-Za-z0-9._-]{0,63}-\d{1,6}\.log")


def directory(host: str, transaction: str) -> Path:
    """Return ``$FLEETFLASH_LOGS``, or the user's XDG state directory, with a directory for host and transaction."""
    configured = os.environ.get(ENVIRONMENT)
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    root = Path(configured).expanduser() if configured else base / "fleetflash" / "logs"
    return root / host / transaction


def keep(host: str, transaction: str, logs: Mapping[str, bytes]) -> Path | None:
    """Write the logs of a transaction; return their directory, or ``None`` when there are none.

    They are the user's alone: firmware may print what it should not. Raises ``OSError``.
    """
    known = {name: data for name, data in logs.items() if _NAME.fullmatch(name)}
    if not known:
        return None
    place = directory(host, transaction)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in known.items():
        descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return place
