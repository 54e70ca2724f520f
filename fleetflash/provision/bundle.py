"""The controller's mirror of a repository, and what of it a host still lacks."""

from functools import lru_cache
from pathlib import Path

from fleetflash.build.bundle import make_bundle
from fleetflash.build.source import Revision, Sources


@lru_cache(maxsize=32)
def resolve(cache: Path, repository: str, ref: str) -> Revision:
    """Return the commit that a pin means, from the build cache's mirror; raises ``SourceError``."""
    return Sources.below(cache).resolve(repository, ref)


def make(revision: Revision, there: str) -> bytes:
    """Return a bundle of a commit with its tags, without the history of what is ``there``; raises ``SourceError``."""
    return make_bundle(revision.mirror, revision.commit, there)[0]
