"""The controller's mirror of a repository, and what of it a host still lacks."""

import threading
from functools import lru_cache
from pathlib import Path

from fleetflash.build.bundle import make_bundle
from fleetflash.build.source import Revision, Sources

_one_at_a_time = threading.Lock()


def resolve(cache: Path, repository: str, ref: str) -> Revision:
    """Return the commit that a pin means, from the build cache's mirror; raises ``SourceError``.

    All hosts ask at once; the first asks git, and the others have its answer.
    """
    with _one_at_a_time:
        return _resolve(cache, repository, ref)


@lru_cache(maxsize=32)
def _resolve(cache: Path, repository: str, ref: str) -> Revision:
    return Sources.below(cache).resolve(repository, ref)


def make(revision: Revision, there: str) -> bytes:
    """Return a bundle of a commit with its tags, without the history of what is ``there``; raises ``SourceError``."""
    return make_bundle(revision.mirror, revision.commit, there)[0]
