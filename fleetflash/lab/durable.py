"""What of a host's disk survives a power cut.

The kernel under a host stays up when the host's power is cut, so what was written but not synced would survive, too.
In the directories ``ROOTS`` it does not: the preloaded library (``shim/durable.c``, which describes the record's form)
notes what every ``fsync``, ``fdatasync``, ``sync`` and ``syncfs`` has made durable, and after a cut the directories are
rebuilt from that alone, in the strictest way that POSIX (``fsync``, Rationale) allows:

- a file is what it was when it was synced last; one that never was is empty;
- a name is there, or is not, or is another file's, as when its directory was synced last;
- a directory that was never synced is empty.

Modes and owners of what was never synced are those when its directory was.
"""

import fcntl
import os
import shutil
from pathlib import Path

from fleetflash.lab import inode, tree
from fleetflash.lab.tree import Directory, File, Link, Node, Owner

#: Where fleetflash keeps what it must not lose. Everywhere else, everything survives.
ROOTS = (Path("/var/lib/fleetflash"), Path("/etc/systemd/system"))
#: Where the host sees its record.
INSIDE = "/run/fleetflash-durable"


def directory(host: Path) -> Path:
    """The record of the host whose directory in the lab this is."""
    return host / "durable"


def begin(host: Path, root: Path) -> None:
    """Take everything as durable that is on the disk of a host, mounted at ``root``, that is about to boot."""
    forget(host)
    record = directory(host)
    for watched in ROOTS:
        path = _below(root, watched)
        if path.is_dir():
            _record(record, path)
        _record_entries(record, path.parent, [path] if path.is_dir() else [])
    # Without the list nothing is recorded and nothing is lost: it comes last.
    (record / "roots").write_text("".join(f"{watched}\n" for watched in ROOTS))


def forget(host: Path) -> None:
    """The host has shut down cleanly, or never ran: nothing of it can be lost."""
    record = directory(host)
    shutil.rmtree(record, ignore_errors=True)
    record.mkdir()
    # Whoever may sync may record.
    record.chmod(0o777)


def survivors(host: Path, root: Path) -> dict[Path, Node | None]:
    """What a power cut at this moment would leave of each of ``ROOTS``; nothing is said of a host that is off.

    No process of the host ends a sync meanwhile.
    """
    record = directory(host)
    turn = os.open(record, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (record / "roots").exists():
            return {}
        holders = {path: inode.key(_below(root, path.parent)) for path in ROOTS}
        return {path: _entries(record, key).get(path.name) for path, key in holders.items()}
    finally:
        os.close(turn)


def lose_the_rest(host: Path, root: Path) -> None:
    """Take from the disk of a host, mounted at ``root``, what was not durable when its power was cut."""
    for path, node in survivors(host, root).items():
        tree.change(_below(root, path), node)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


# Writing, for a host that is off


def _record(record: Path, path: Path) -> None:
    """Record a file, or a directory with everything below it; entries come last, when keys are final."""
    _copy_up(path)
    if path.is_dir():
        below = list(path.iterdir())
        for child in below:
            if not child.is_symlink() and (child.is_dir() or child.is_file()):
                _record(record, child)
        _record_entries(record, path, below)
    else:
        shutil.copyfile(path, record / f"data-{inode.key(path)}")
    (record / f"owner-{inode.key(path)}").write_text(_owner(path))


def _record_entries(record: Path, path: Path, entries: list[Path]) -> None:
    _copy_up(path)
    lines = b""
    for entry in entries:
        target = tree.target(entry) if entry.is_symlink() else ""
        kind = "l" if entry.is_symlink() else "d" if entry.is_dir() else "f" if entry.is_file() else ""
        if kind:
            words = f"{kind} {inode.key(entry)} {_owner(entry)}\0{entry.name}\0{target}\0"
            lines += os.fsencode(words)
    (record / f"entries-{inode.key(path)}").write_bytes(lines)


def _copy_up(path: Path) -> None:
    """An overlay gives a file that it copies up a new birth: it shall have it now, and keep it."""
    path.chmod(path.stat().st_mode & 0o7777)


def _owner(path: Path) -> str:
    status = path.lstat()
    return f"{status.st_mode & 0o7777:o} {status.st_uid} {status.st_gid}"


# Reading, after a power cut


def _entries(record: Path, key: str) -> dict[str, Node]:
    """The durable entries of the directory with this key."""
    try:
        fields = (record / f"entries-{key}").read_bytes().split(b"\0")
    except FileNotFoundError:
        return {}
    found = {}
    for head, name, target in zip(fields[0::3], fields[1::3], fields[2::3], strict=False):
        kind, below, *words = head.decode().split()
        found[os.fsdecode(name)] = _node(record, kind, below, _parse(words), os.fsdecode(target))
    return found


def _node(record: Path, kind: str, key: str, owner: Owner, target: str) -> Node:
    if kind == "l":
        return Link(target)
    try:
        owner = _parse((record / f"owner-{key}").read_text().split())
    except FileNotFoundError:
        pass
    if kind == "d":
        return Directory(owner, _entries(record, key))
    try:
        return File(owner, (record / f"data-{key}").read_bytes())
    except FileNotFoundError:
        return File(owner, b"")


def _parse(words: list[str]) -> Owner:
    mode, uid, gid = words
    return Owner(int(mode, 8), int(uid), int(gid))
