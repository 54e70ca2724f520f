"""Commits on their way to a host that has no internet: a bundle of what it lacks (git-bundle(1))."""

import tempfile
from functools import lru_cache
from pathlib import Path

from fleetflash.build.errors import SourceError
from fleetflash.build.git import git
from fleetflash.build.lock import held

#: The name that a commit has in its bundle, which can't carry a commit without one.
REF = "refs/fleetflash/{}"


@lru_cache(maxsize=8)
def make_bundle(mirror: Path, commit: str, had: str) -> tuple[bytes, str]:
    """Return a bundle of ``commit`` with its tags, and the nearest of them; there may be none.

    + had: a commit that the host has, whose history is left out; empty: it has nothing

    The commit is in it as ``REF`` says. Hosts that are alike get the same one, made once. Raises ``SourceError``.
    """
    name = REF.format(commit)
    with held(mirror.with_suffix(".lock")):
        git(mirror, "update-ref", name, commit)
    names = [name, *(f"refs/tags/{tag}" for tag in git(mirror, "tag", f"--merged={commit}").splitlines())]
    # A host that has a later commit without this one has no whole history: it gets everything.
    known = bool(had) and _has(mirror, had) and not _is_ancestor(mirror, commit, had)
    without = [f"^{had}"] if known else []
    with tempfile.TemporaryDirectory(prefix="fleetflash-") as directory:
        path = Path(directory) / "commits"
        git(mirror, "bundle", "create", "--quiet", str(path), *names, *without)
        return path.read_bytes(), _tag(mirror, commit)


def _tag(mirror: Path, commit: str) -> str:
    try:
        return git(mirror, "describe", "--tags", "--abbrev=0", commit)
    except SourceError:
        return ""


def _has(mirror: Path, commit: str) -> bool:
    try:
        git(mirror, "cat-file", "-e", f"{commit}^{{commit}}")
    except SourceError:
        return False
    return True


def _is_ancestor(mirror: Path, commit: str, of: str) -> bool:
    try:
        git(mirror, "merge-base", "--is-ancestor", commit, of)
    except SourceError:
        return False
    return True
