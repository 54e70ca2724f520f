"""What Klipper's own code shall be: the pinned commit, looked up in the controller's mirror of the repository."""

import dataclasses

from fleetflash.agent.schema import CheckoutFacts
from fleetflash.boards import KlipperCode
from fleetflash.build.errors import BuildError
from fleetflash.build.location import cache_directory
from fleetflash.build.source import Sources
from fleetflash.plan import WantedCode


def wanted_code(code: KlipperCode, cache: str = "") -> WantedCode:
    """Return the commit of a pin; why it can't be had is an answer, too.

    ``cache``: where mirrors are; empty: where they are by default.
    """
    try:
        revision = _sources(cache).resolve(code.repository, code.version)
    except (BuildError, OSError) as error:
        return WantedCode(code.repository, problem=f"klipper_version: {error}")
    return WantedCode(code.repository, revision.commit, revision.version, revision.mirror)


def compared(wanted: WantedCode, found: CheckoutFacts | None, cache: str = "") -> WantedCode:
    """Return ``wanted`` with what the host has of it, and whether the repository has the commit that the host is at."""
    if wanted.problem or found is None or not found.commit:
        return wanted
    wanted = dataclasses.replace(wanted, present=found.present)
    if found.commit == wanted.commit:
        return wanted
    try:
        _sources(cache).resolve(wanted.repository, found.commit)
    except BuildError:
        return dataclasses.replace(wanted, foreign=True)
    return wanted


def _sources(cache: str) -> Sources:
    return Sources.below(cache_directory(cache))
