"""The firmware's source: a bare mirror of each repository, and a clean worktree of a commit for each build."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import SourceError
from fleetflash.build.git import ABBREVIATION, git
from fleetflash.build.lock import held
from fleetflash.build.overlay import Overlay
from fleetflash.build.workspace import workspace
from fleetflash.secret import PASSWORD_IN_URL

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Revision:
    """A commit of a mirror. ``version``: how git describes it, which is what its firmware would report as it is."""

    mirror: Path
    commit: str
    version: str


@dataclass(frozen=True)
class Worktree:
    """A clean checkout; ``version`` counts in the overlay; ``already`` is what of it the source had."""

    path: Path
    version: str
    already: tuple[str, ...]


class Sources:
    """Mirrors below a directory. Raises ``SourceError``, in one line."""

    def __init__(self, directory: Path, work: Path) -> None:
        self.directory, self.work = directory, work

    @classmethod
    def below(cls, cache: Path) -> "Sources":
        """Return those of a build cache."""
        return cls(cache / "mirrors", cache / "work")

    def resolve(self, repository: str, ref: str, report: Callable[[str], None] = lambda text: None) -> Revision:
        """Return the commit that ``ref`` (a commit, tag or branch) of a repository (URL or path) means.

        Commits and tags that the mirror has are taken from there, without a network. A branch is always asked for.
        """
        if ref.startswith("-") or not ref.strip() or any(c.isspace() for c in ref):
            raise SourceError(f"{repository}: {ref!r} is no commit, tag or branch; pin one")
        if PASSWORD_IN_URL.search(repository):
            raise SourceError(
                "the repository's URL has a password in it; leave it to git's credential helper or an SSH key"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        mirror = self.directory / _mirror_name(repository)
        with held(self._lock(mirror), waiting=lambda: report(f"waiting for another builder at {repository}")):
            if not (mirror / "HEAD").exists():
                self._create(mirror)
            commit = _find(mirror, ref)
            if commit is None:
                report(f"fetching {repository}")
                self._fetch(mirror, repository, ref)
                commit = _find(mirror, ref) or _commit(mirror, f"refs/heads/{ref}")
            if commit is None:
                raise SourceError(
                    f"{repository} has no commit, tag or branch {ref!r}; pin another, e.g. {_newest_tags(mirror)}"
                )
            return Revision(mirror, commit, _describe(mirror, commit))

    @contextmanager
    def worktree(self, revision: Revision, overlay: Overlay) -> Iterator[Worktree]:
        """Yield a worktree of a commit with an overlay on it; it is gone afterwards.

        The overlay becomes a commit with a fixed author and the date of the one below: git describes the tree as clean,
        and every builder gets the same version. Raises ``SourceError`` or ``OverlayError``.
        """
        with workspace(self.work) as directory:
            path = directory / "klipper"
            with held(self._lock(revision.mirror)):
                git(revision.mirror, "worktree", "prune")
                git(revision.mirror, "worktree", "add", "--quiet", "--detach", str(path), revision.commit)
            try:
                already = tuple(overlay.apply(path))
                _commit_overlay(path, overlay)
                yield Worktree(path, _describe(path, "HEAD"), already)
            finally:
                shutil.rmtree(path, ignore_errors=True)
                with held(self._lock(revision.mirror)):
                    git(revision.mirror, "worktree", "prune")

    def _create(self, mirror: Path) -> None:
        shutil.rmtree(mirror, ignore_errors=True)
        git(self.directory, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(mirror))
        git(mirror, "config", "gc.auto", "0")

    def _fetch(self, mirror: Path, repository: str, ref: str) -> None:
        local = ":" not in repository
        where = str(Path(repository).expanduser().absolute()) if local else repository
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        try:
            git(mirror, "fetch", "--quiet", "--no-write-fetch-head", "--", where, *refs, user=True)
        except SourceError as error:
            raise SourceError(
                f"{repository}: {ref} is not here and can't be fetched ({error}); check the network and URL"
            ) from None

    def _lock(self, mirror: Path) -> Path:
        return mirror.with_suffix(".lock")


def _mirror_name(repository: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]", "", repository.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git"))
    return f"{stem or 'repository'}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}.git"


def _find(mirror: Path, ref: str) -> str | None:
    """Return the commit of a tag or a commit's name, of what never moves."""
    tag = _commit(mirror, f"refs/tags/{ref}")
    return tag or (_commit(mirror, ref) if _ABBREVIATED.fullmatch(ref) else None)


def _commit(mirror: Path, name: str) -> str | None:
    try:
        found = git(mirror, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except SourceError:
        return None
    return found if _COMMIT.fullmatch(found) else None


def _describe(tree: Path, commit: str) -> str:
    """As Klipper's scripts/buildcommands.py asks for it, which adds ``--dirty``."""
    return git(tree, "describe", "--always", "--tags", "--long", f"--abbrev={ABBREVIATION}", commit)


def _commit_overlay(tree: Path, overlay: Overlay) -> None:
    git(tree, "add", "--all", "--force")
    if not git(tree, "status", "--porcelain"):
        return
    date = git(tree, "show", "--no-patch", "--format=%cd", "--date=raw", "HEAD")
    git(
        tree,
        "commit",
        "--quiet",
        "--no-verify",
        "--message",
        f"Overlay {overlay.hash[:12]}",
        GIT_AUTHOR_DATE=date,
        GIT_COMMITTER_DATE=date,
    )


def _newest_tags(mirror: Path) -> str:
    return ", ".join(git(mirror, "tag", "--sort=-creatordate").splitlines()[:3]) or "a commit"
