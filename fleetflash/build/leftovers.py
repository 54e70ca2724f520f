"""What builders that died have left in a build cache. What a living one uses is locked, and stays."""

from pathlib import Path

from fleetflash.build import workspace
from fleetflash.build.errors import BuildError
from fleetflash.build.toolchain_cache import ToolchainCache


def sweep(cache: Path, *, remove: bool) -> list[str]:
    """Return one line for each thing that is left, and remove it if asked; raises ``BuildError``."""
    try:
        toolchains = ToolchainCache(cache / "toolchains").sweep(remove=remove)
        trees = workspace.sweep(cache / "work", remove=remove)
    except OSError as error:
        raise BuildError(f"{error.filename or cache}: {error.strerror or error}; correct its owner or rights") from None
    unfinished = [f"toolchain {path}: was not fetched, unpacked or removed to its end" for path in toolchains]
    return [*unfinished, *(f"worktree {path}: is of a build that died" for path in trees)]
