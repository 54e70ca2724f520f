"""What a host gets to build from: a worktree that git describes there as it does here, or a toolchain's tree.

Both are tars (gzip) that are the same whoever makes them: no owners, one time, only *executable* of the modes.
"""

import gzip
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from fleetflash.build.configuration import CONFIG
from fleetflash.build.git import git

#: The time of all files: make takes those of 1970 for absent.
_TIME = 946_684_800
_OWN = (".git", "out")


def pack_source(tree: Path, file: IO[bytes]) -> None:
    """Write a tar of a clean worktree and its ``.config``, with a repository of its own; raises ``SourceError``.

    The repository has all commits and tags up to this one, which is what ``git describe`` needs, but the files of this
    commit only. ``.config`` is younger than the rest, so that make takes it for complete.
    """
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix="repository-") as directory:
        repository = _repository(tree, Path(directory))
        paths = {path.name: path for path in sorted(tree.iterdir()) if path.name not in _OWN}
        _pack(paths | {".git": repository}, file)


def pack_tree(tree: Path, file: IO[bytes]) -> None:
    """Write a tar of what is in a directory."""
    _pack({path.name: path for path in sorted(tree.iterdir())}, file)


def _pack(paths: dict[str, Path], file: IO[bytes]) -> None:
    with gzip.GzipFile("", "wb", 1, file, 0) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for name, path in paths.items():
            archive.add(path, name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = _TIME + (member.name == CONFIG)
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _repository(tree: Path, directory: Path) -> Path:
    """Make a repository whose history has no files; sources: git-pack-objects(1), gitrepository-layout(5)."""
    git(directory, "init", "--quiet", "--template=", "--initial-branch=main")
    repository = directory / ".git"
    commits = git(tree, "rev-list", "HEAD").splitlines()
    tags = [
        line.split(" ")
        for line in git(
            tree, "for-each-ref", "--merged=HEAD", "--format=%(objectname) %(object) %(refname)", "refs/tags"
        ).splitlines()
    ]
    listed = [line.split(maxsplit=3) for line in git(tree, "ls-tree", "-r", "-t", "HEAD").splitlines()]
    objects = [*commits, git(tree, "rev-parse", "HEAD^{tree}")]
    objects += [id for tag in tags for id in tag[:2] if id]
    objects += [entry[2] for entry in listed if entry[1] != "commit"]
    wanted = "".join(f"{id}\n" for id in dict.fromkeys(objects))
    git(tree, "pack-objects", "--quiet", str(repository / "objects/pack/pack"), input=wanted.encode())
    (repository / "packed-refs").write_text("".join(f"{tag[0]} {tag[2]}\n" for tag in tags))
    (repository / "HEAD").write_text(commits[0] + "\n")
    git(tree, "read-tree", "HEAD", GIT_DIR=str(repository), GIT_WORK_TREE=str(tree))
    return repository
