"""A source tree of the host at a pinned commit, and never at the cost of what its owner has changed there.

A new tree is made beside its place and renamed. A tree that is being moved says so in ``.git/fleetflash-moving`` from
before its first file changes until it has arrived: what a power cut leaves in between are not its owner's changes.
"""

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from fleetflash.agent import disk
from fleetflash.agent.git import GitError, changes, commit_of, git, is_repository

#: What fleetflash has brought lies below this name, so that it can be told from what somebody has committed here.
PUSHED = "refs/fleetflash"
MOVING = ".git/fleetflash-moving"


class TreeError(Exception):
    """The tree can't be brought to its commit, or not without losing something; nothing was touched."""


@dataclass(frozen=True)
class Tree:
    """What lies at a checkout's place.

    ``kind``: ``absent``, ``foreign`` (no git repository) or ``repository``. ``commit``: what is checked out, empty
    before the first; ``wanted``: the commit that the pin means here, empty when the repository hasn't got it.
    ``changes``: files of the commit that were changed; ``untracked``: others. ``is_local``: the commit is on no branch
    of a remote and under no tag. ``is_moving``: an earlier move did not arrive.
    """

    kind: str
    commit: str = ""
    wanted: str = ""
    changes: List[str] = field(default_factory=list)
    untracked: List[str] = field(default_factory=list)
    is_local: bool = False
    is_moving: bool = False

    @property
    def is_current(self) -> bool:
        return bool(self.wanted) and self.commit == self.wanted and not self.is_moving


def look(path: Path, ref: str) -> Tree:
    """Say what lies at ``path``; changes nothing. Raises ``GitError`` for a repository that git can't read."""
    if not os.path.lexists(str(path)) or (path.is_dir() and not any(path.iterdir())):
        return Tree("absent")
    if not is_repository(path):
        return Tree("foreign")
    commit = commit_of(path, "HEAD")
    moving = (path / MOVING).exists()
    changed, untracked = ([], []) if moving or not commit else changes(path)
    return Tree(
        "repository",
        commit,
        commit_of(path, f"refs/tags/{ref}") or commit_of(path, ref),
        changed,
        untracked,
        bool(commit) and not moving and _is_local(path, commit),
        moving,
    )


def move(path: Path, ref: str, repository: str, bundle: Optional[Path], discard: bool) -> str:
    """Bring the tree to the commit that ``ref`` means; return what was done with what was in the way, or nothing.

    + ref: a full commit, or a tag
    + repository: where it comes from; it becomes ``origin``. The host fetches from there unless there is a bundle
    + bundle: a file of git-bundle(1) that has the commit below ``refs/fleetflash/``
    + discard: take away what is in the way, which is saved first (``<path>-saved``)

    Raises ``TreeError`` or ``GitError``.
    """
    tree = look(path, ref)
    if tree.is_current and not (discard and tree.changes):
        return ""
    _refuse(path, tree, discard)
    if tree.kind != "repository":
        kept = _move_aside(path) if tree.kind == "foreign" else ""
        _make(path, ref, repository, bundle)
        return kept
    _fetch(path, repository, bundle)
    wanted = _wanted(path, ref, repository)
    kept = _save(path, tree)
    marker = path / MOVING
    disk.write_file(marker, f"{tree.commit} {wanted}\n".encode())
    if tree.is_moving:
        # Of a git that died with the host; no other one is at work here, or it would not be moving still.
        (path / ".git/index.lock").unlink(missing_ok=True)
    git(path, "checkout", "--quiet", "--force" if discard or tree.is_moving else "--no-guess", "--detach", wanted)
    os.sync()
    marker.unlink()
    return kept


def _refuse(path: Path, tree: Tree, discard: bool) -> None:
    if discard:
        return
    how = "saves that first and goes on with klipper_discard_changes = True"
    if tree.kind == "foreign":
        raise TreeError(f"{path} is no git repository, so what is in it can't be told from Klipper's own; {how}")
    if tree.changes:
        named = ", ".join(tree.changes[:3]) + (f" and {len(tree.changes) - 3} more" if len(tree.changes) > 3 else "")
        raise TreeError(f"{path} at {tree.commit[:10]} has changes of its own ({named}); {how}")
    if tree.is_local:
        raise TreeError(f"{path} is at {tree.commit[:10]}, which is nobody's but this host's; {how}")


def draft(path: Path) -> Path:
    """Return where a new tree is made before it gets its place."""
    return path.with_name(f".{path.name}-new")


def _make(path: Path, ref: str, repository: str, bundle: Optional[Path]) -> None:
    new = draft(path)
    shutil.rmtree(str(new), ignore_errors=True)
    new.mkdir(parents=True)
    git(new, "init", "--quiet", "--template=")
    _fetch(new, repository, bundle)
    git(new, "checkout", "--quiet", "--detach", _wanted(new, ref, repository))
    os.sync()
    new.rename(path)


def _fetch(path: Path, repository: str, bundle: Optional[Path]) -> None:
    git(path, "config", "remote.origin.url", repository)
    git(path, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    quiet = ("fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance")
    if bundle is None:
        try:
            git(path, *quiet, "--tags", "--force", "origin")
        except GitError as error:
            raise TreeError(
                f"{repository} can't be fetched from this host ({error}); make it reachable from here, or leave out "
                "fetch = 'host', so that the controller sends its copy"
            ) from None
    else:
        git(path, *quiet, str(bundle), f"+{PUSHED}/*:{PUSHED}/*", "+refs/tags/*:refs/tags/*")


def _wanted(path: Path, ref: str, repository: str) -> str:
    wanted = commit_of(path, f"refs/tags/{ref}") or commit_of(path, ref)
    if not wanted:
        raise TreeError(f"{repository} has no commit or tag {ref!r}; pin another")
    return wanted


def _is_local(path: Path, commit: str) -> bool:
    known = git(path, "for-each-ref", f"--contains={commit}", "--count=1", "refs/remotes", "refs/tags", PUSHED)
    return not known


def _save(path: Path, tree: Tree) -> str:
    """Keep what a forced checkout would lose; return in words what was kept, or nothing."""
    kept = []
    if tree.changes:
        saved = _place(path)
        saved.mkdir(parents=True, exist_ok=True)
        patch = saved / f"{_stamp()}-{tree.commit[:10]}.patch"
        index = patch.with_suffix(".index")
        git(path, "read-tree", "HEAD", GIT_INDEX_FILE=str(index))
        git(path, "add", "--all", GIT_INDEX_FILE=str(index))
        git(path, "diff", "--cached", "--binary", f"--output={patch}", "HEAD", GIT_INDEX_FILE=str(index))
        index.unlink()
        kept.append(f"its changes are in {patch}")
    if tree.is_local:
        branch = f"fleetflash-saved-{_stamp()}"
        git(path, "branch", branch, tree.commit)
        kept.append(f"its commits are on the branch {branch}")
    return ", ".join(kept)


def _move_aside(path: Path) -> str:
    saved = _place(path) / _stamp()
    saved.parent.mkdir(parents=True, exist_ok=True)
    path.rename(saved)
    return f"what was there is in {saved}"


def _place(path: Path) -> Path:
    return path.with_name(f"{path.name}-saved")


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
