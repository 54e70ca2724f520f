"""A small directory tree as data: read from disk, compared, and written back.

Regular files, directories and symbolic links with their owners, modes and contents; not times, not hard links.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Permission bits, user and group."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class File:
    owner: Owner
    content: bytes


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Directory:
    owner: Owner
    entries: Mapping[str, "Node"]


Node = File | Directory | Link


def look(path: Path) -> Node | None:
    """What is at ``path``; ``None`` when it is absent or of another kind."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    owner = Owner(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISREG(status.st_mode):
        return File(owner, path.read_bytes())
    if stat.S_ISLNK(status.st_mode):
        return Link(target(path))
    if stat.S_ISDIR(status.st_mode):
        found = {below.name: look(below) for below in path.iterdir()}
        return Directory(owner, {name: node for name, node in found.items() if node is not None})
    return None


def target(link: Path) -> str:
    """What a symbolic link says, letter for letter."""
    return os.readlink(link)  # noqa: PTH115 (Path.readlink rewrites it)


def change(path: Path, wanted: Node | None) -> None:
    """Make ``path`` what is wanted; what already is stays untouched, down to single files."""
    found = look(path)
    if found == wanted:
        return
    if isinstance(found, Directory) and isinstance(wanted, Directory):
        for name in {*found.entries, *wanted.entries}:
            change(path / name, wanted.entries.get(name))
        _own(path, wanted.owner)
        return
    if isinstance(found, Directory):
        shutil.rmtree(path)
    elif found is not None:
        path.unlink()
    if wanted is not None:
        _make(path, wanted)


def _make(path: Path, node: Node) -> None:
    if isinstance(node, Link):
        path.symlink_to(node.target)
        return
    if isinstance(node, File):
        path.write_bytes(node.content)
    else:
        path.mkdir()
        for name, entry in node.entries.items():
            _make(path / name, entry)
    _own(path, node.owner)


def _own(path: Path, owner: Owner) -> None:
    os.chown(path, owner.uid, owner.gid)
    path.chmod(owner.mode)
