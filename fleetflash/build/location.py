"""Where toolchains, mirrors and builds are when nobody says so."""

import os
from pathlib import Path

ENVIRONMENT = "FLEETFLASH_BUILD_CACHE"


def default_cache() -> Path:
    """Return ``$FLEETFLASH_BUILD_CACHE``, or the user's in the XDG cache directory."""
    if configured := os.environ.get(ENVIRONMENT):
        return Path(configured).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(cache) if cache.startswith("/") else Path("~/.cache").expanduser()
    return base / "fleetflash" / "build"


def cache_directory(given: object) -> Path:
    """Return the directory that an inventory's ``build_cache`` names; empty or none: the default one."""
    return Path(str(given)).expanduser().absolute() if given else default_cache()
