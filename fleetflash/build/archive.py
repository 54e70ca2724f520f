"""Unpacking an archive so that nothing of it lands outside of its directory, and everything is on disk."""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from fleetflash.build.errors import ArchiveError
from fleetflash.firmware.durable import sync_directory

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)


@dataclass(frozen=True)
class Entry:
    """One member of an archive; ``target`` of a symbolic link as written, of a hard link the other member's name."""

    name: str
    kind: Literal["directory", "file", "symlink", "hardlink", "other"]
    executable: bool
    target: str
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, directory: Path) -> None:
    """Unpack tar (plain, gz, bz2, xz; zst where Python reads it) or zip into ``directory``, which must not exist.

    Owners, times and all modes but *executable* are dropped. Raises ``ArchiveError`` for what is damaged, of no known
    format, a device, or would lie or lead outside; ``OSError`` when the disk does not take it.
    """
    directory.mkdir()
    root = Path(os.path.realpath(directory))
    try:
        for entry in _entries(archive):
            _unpack_entry(entry, root)
    except _DAMAGE as error:
        # Their messages may have several lines, one for each format that was tried.
        said = str(error).partition("\n")[0] or repr(error)
        raise ArchiveError(f"the archive is damaged ({said})") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"the archive holds a file and a directory of one name ({error.filename})") from None
    _finish(root)


def _entries(archive: Path) -> Iterator[Entry]:
    with open(archive, "rb") as file:
        magic = file.read(4)
    if zipfile.is_zipfile(archive):
        return _zip_entries(archive)
    if not tarfile.is_tarfile(archive):
        if magic == _ZSTD_MAGIC:
            raise ArchiveError(
                "the archive is compressed with zstd, which this Python can't read; pin a .tar.xz or .zip"
            )
        raise ArchiveError("neither a tar nor a zip archive, or damaged in its beginning; pin the archive itself")
    return _tar_entries(archive)


def _tar_entries(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive) as tar:
        for member in tar:
            kind: Literal["directory", "file", "symlink", "hardlink", "other"] = "other"
            if member.isdir():
                kind = "directory"
            elif member.isreg():
                kind = "file"
            elif member.issym():
                kind = "symlink"
            elif member.islnk():
                kind = "hardlink"
            content = partial(tar.extractfile, member)
            yield Entry(member.name, kind, bool(member.mode & 0o100), member.linkname, content)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            mode = info.external_attr >> 16
            symlink = stat.S_ISLNK(mode)
            target = packed.read(info).decode("utf-8", "surrogateescape") if symlink else ""
            kind: Literal["directory", "file", "symlink"] = "symlink" if symlink else "file"
            if info.is_dir():
                kind = "directory"
            yield Entry(info.filename, kind, bool(mode & 0o100), target, partial(packed.open, info))


def _unpack_entry(entry: Entry, root: Path) -> None:
    path = _inside(entry.name, root)
    if entry.kind == "directory":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        raise ArchiveError(f"the archive holds {entry.name!r} twice")
    if entry.kind == "symlink":
        if PurePosixPath(entry.target).is_absolute() or not _is_inside(path.parent / entry.target, root):
            raise ArchiveError(f"the archive's link {entry.name!r} leads outside, to {entry.target!r}")
        path.symlink_to(entry.target)
    elif entry.kind == "hardlink":
        target = _inside(entry.target, root)
        if not os.path.lexists(target):
            raise ArchiveError(f"the archive's link {entry.name!r} is to {entry.target!r}, which it does not hold")
        os.link(target, path, follow_symlinks=False)
    elif entry.kind == "file":
        _write(entry, path)
    else:
        raise ArchiveError(f"the archive's member {entry.name!r} is neither file, directory nor link")


def _write(entry: Entry, path: Path) -> None:
    content = entry.open()
    assert content is not None, "only a link has no content"
    # Exclusively created: what is there already, a link to elsewhere above all, is never written through.
    with content, open(path, "xb") as file:
        while chunk := content.read(_CHUNK):
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), 0o755 if entry.executable else 0o644)
        os.fsync(file.fileno())


def _inside(name: str, root: Path) -> Path:
    """Return where a member belongs, whose directory is inside even when links lead there."""
    parts = PurePosixPath(name).parts
    path = root.joinpath(*parts)
    if not parts or name.startswith("/") or ".." in parts or not _is_inside(path.parent, root):
        if PurePosixPath(name) == PurePosixPath("."):
            return root
        raise ArchiveError(f"the archive's member {name!r} would be written outside")
    return path


def _is_inside(path: Path | str, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _finish(root: Path) -> None:
    """Check links again, since what a link meant may have changed by what came after it; wait for the disk."""
    for directory, below, files in os.walk(root):
        for name in (*below, *files):
            path = Path(directory, name)
            if path.is_symlink() and not _is_inside(path, root):
                raise ArchiveError(f"the archive's link {str(path.relative_to(root))!r} leads outside")
        sync_directory(Path(directory))
