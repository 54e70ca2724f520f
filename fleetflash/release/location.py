"""Where releases are kept when nobody says so: beside the artifacts."""

import os
from pathlib import Path

from fleetflash.firmware.location import default_store

ENVIRONMENT = "FLEETFLASH_RELEASES"


def default_releases() -> Path:
    """Return ``$FLEETFLASH_RELEASES``, or ``releases`` beside the artifact store."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured).expanduser().absolute()
    return default_store().absolute().parent / "releases"
