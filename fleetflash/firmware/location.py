"""Where the artifact store is when nobody says so."""

import os
from pathlib import Path

ENVIRONMENT = "FLEETFLASH_STORE"
#: A project may keep its artifacts beside its inventory.
PROJECT = Path("artifacts")
#: What lies in a store beside its artifacts: ELF files to decode panics with.
SYMBOLS = "symbols"


def default_store() -> Path:
    """Return ``$FLEETFLASH_STORE``, ``./artifacts`` if there is one, or the user's in the XDG data directory."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured).expanduser()
    if PROJECT.is_dir():
        return PROJECT.absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(data) if data.startswith("/") else Path("~/.local/share").expanduser()
    return base / "fleetflash" / "artifacts"
