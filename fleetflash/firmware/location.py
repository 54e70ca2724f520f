"""Where the artifact store is when nobody says so."""

import os
from pathlib import Path

ENVIRONMENT = "FLEETFLASH_STORE"


def default_store() -> Path:
    """Return ``$FLEETFLASH_STORE``, or ``fleetflash/artifacts`` in the user's XDG data directory."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(data) if data.startswith("/") else Path("~/.local/share").expanduser()
    return base / "fleetflash" / "artifacts"
