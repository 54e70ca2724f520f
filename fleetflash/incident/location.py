"""Where incidents are kept when nobody says so: beside the artifacts."""

import os
from pathlib import Path

from fleetflash.firmware.location import default_store

ENVIRONMENT = "FLEETFLASH_INCIDENTS"


def default_incidents() -> Path:
    """Return ``$FLEETFLASH_INCIDENTS``, or ``incidents`` beside the artifact store."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured).expanduser().absolute()
    return default_store().absolute().parent / "incidents"
