"""The controller's mirror of a repository, and what of it a host still lacks, as one file of git-bundle(1)."""

import tempfile
from functools import lru_cache
from pathlib import Path

from fleetflash.build.errors import SourceError
from fleetflash.build.git import git
from fleetflash.build.source import Revision, Sources


@lru_cache(maxsize=32)
def resolve(cache: Path, repository: str, ref: str) -> Revision:
    """Return the commit that a pin means, from the build cache's mirror; raises ``SourceError``."""
    return Sources(cache / "mirrors", cache / "work").resolve(repository, ref)


@lru_cache(maxsize=8)
def make(revision: Revision, there: str) -> bytes:
    """Return a bundle of a commit with its tags; raises ``SourceError``.

    + there: a commit that the host has, whose history is left out; empty: it has nothing

    The commit is in it as ``refs/fleetflash/<commit>``. The same for all hosts that are alike, so it is made once.
    """
    mirror, commit = revision.mirror, revision.commit
    name = f"refs/fleetflash/{commit}"
    git(mirror, "update-ref", name, commit)
    tags = [f"refs/tags/{tag}" for tag in git(mirror, "tag", f"--merged={commit}").splitlines()]
    without = [f"^{there}"] if there and _has(mirror, there) and not _contains(mirror, there, commit) else []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "source.bundle"
        git(mirror, "bundle", "create", "--quiet", str(path), name, *tags, *without)
        return path.read_bytes()


def _has(mirror: Path, commit: str) -> bool:
    try:
        git(mirror, "cat-file", "-e", f"{commit}^{{commit}}")
    except SourceError:
        return False
    return True


def _contains(mirror: Path, newer: str, older: str) -> bool:
    """Whether a bundle without ``newer``'s history would be empty."""
    try:
        git(mirror, "merge-base", "--is-ancestor", older, newer)
    except SourceError:
        return False
    return True
