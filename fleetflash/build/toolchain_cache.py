"""The toolchains of this computer: a directory with one directory for each archive, named by its sha256.

``<cache>/<sha256>/toolchain.json`` says what it is, ``tree/`` holds what was unpacked. An entry appears by one rename,
complete and on disk. Beside it lies ``.<sha256>.lock``: held alone by whoever fetches or removes it, shared by whoever
uses it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build import debian
from fleetflash.build.archive import unpack
from fleetflash.build.download import fetch
from fleetflash.build.errors import ArchiveError, DownloadError, ToolchainError
from fleetflash.build.lock import held, held_if_free
from fleetflash.build.toolchain import Archive, Toolchain, identity
from fleetflash.firmware.durable import sync_directory, write_read_only

DESCRIPTION = "toolchain.json"
TREE = "tree"
_ENTRY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.([0-9a-f]{64})\.(?:download|unpacking|removing)")


@dataclass(frozen=True)
class Tools:
    """A toolchain that is ready: what to put before ``PATH`` (nothing for Debian packages), and its identity.

    ``id``: sha256 over the archive's hash, or over the packages' versions and architectures.
    """

    bin: Path | None
    id: str


@dataclass(frozen=True)
class Cached:
    """One entry: ``used`` is the time of its last use, in seconds since 1970."""

    sha256: str
    name: str
    version: str
    used: float


class ToolchainCache:
    """Toolchains below a directory, which need not exist. Raises ``ToolchainError`` and its subclasses, in one line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def identify(self, toolchain: Toolchain) -> str:
        """Return what ``Tools.id`` will be, without fetching anything; Debian packages must be installed for it."""
        if not toolchain.debian:
            return identity({"archive": toolchain.archive().sha256})
        try:
            return identity(debian.check(toolchain.debian))
        except ToolchainError as error:
            raise ToolchainError(f"toolchain {toolchain}: {error}") from None

    @contextmanager
    def use(self, toolchain: Toolchain, report: Callable[[str], None] = lambda text: None) -> Iterator[Tools]:
        """Yield a toolchain that is there, fetched first if need be, and that nobody removes meanwhile."""
        id = self.identify(toolchain)
        if toolchain.debian:
            yield Tools(None, id)
            return
        with self.tree(toolchain, toolchain.archive(), report) as tree:
            yield Tools(tree / toolchain.bin, id)

    @contextmanager
    def tree(
        self, toolchain: Toolchain, archive: Archive, report: Callable[[str], None] = lambda text: None
    ) -> Iterator[Path]:
        """Yield what one of a toolchain's archives was unpacked to, whatever architecture it is for; as ``use``."""
        lock = self._lock(archive.sha256)
        with self._reported(toolchain):
            self.directory.mkdir(parents=True, exist_ok=True)
            lock.touch()
        entry = self.directory / archive.sha256
        while True:
            with held(lock, shared=True):
                if entry.is_dir():
                    # When it was used last decides which ones are removed first.
                    os.utime(entry / DESCRIPTION)
                    self._check(toolchain, entry)
                    yield entry / TREE
                    return
            with held(lock, waiting=lambda: report(f"waiting for another builder that fetches {toolchain}")):
                if not entry.is_dir():
                    with self._reported(toolchain):
                        self._install(toolchain, archive, report)

    def entries(self) -> list[Cached]:
        """Return what is there, last used first."""
        found = []
        for path in self.directory.iterdir() if self.directory.is_dir() else ():
            if _ENTRY.fullmatch(path.name):
                description = path / DESCRIPTION
                # Somebody else may collect at the same time.
                with suppress(FileNotFoundError):
                    facts = json.loads(description.read_text())
                    found.append(Cached(path.name, facts["name"], facts["version"], description.stat().st_mtime))
        return sorted(found, key=lambda entry: -entry.used)

    def collect(self, keep: int = 2) -> list[Cached]:
        """Remove what dead builders left, and all but the ``keep`` last used versions of each toolchain; return those.

        What somebody uses or fetches right now stays.
        """
        removed, seen = [], dict[str, int]()
        for entry in self.entries():
            seen[entry.name] = seen.get(entry.name, 0) + 1
            if seen[entry.name] > keep:
                with held_if_free(self._lock(entry.sha256)) as free:
                    if free:
                        self._remove(entry.sha256)
                        removed.append(entry)
        self.sweep()
        return removed

    def sweep(self, *, remove: bool = True) -> list[Path]:
        """Remove what builders that died have not fetched, unpacked or removed to its end; return it."""
        found = []
        for path in sorted(self.directory.iterdir()) if self.directory.is_dir() else ():
            if unfinished := _UNFINISHED.fullmatch(path.name):
                with held_if_free(self._lock(unfinished[1])) as free:
                    if free and path.exists():
                        found.append(path)
                        if remove:
                            _discard(path)
        return found

    def _install(self, toolchain: Toolchain, archive: Archive, report: Callable[[str], None]) -> None:
        """Fetch, unpack and publish; the caller holds the entry's lock alone, so what is unfinished is a dead one's."""
        download = self.directory / f".{archive.sha256}.download"
        unpacking = self.directory / f".{archive.sha256}.unpacking"
        for stale in (download, unpacking):
            _discard(stale)
        try:
            report(f"fetching toolchain {toolchain}")
            fetch(archive.urls, archive.sha256, download)
            unpacking.mkdir()
            unpack(download, unpacking / TREE)
            self._check(toolchain, unpacking)
            facts = {"name": toolchain.name, "version": toolchain.version, "sha256": archive.sha256}
            write_read_only(unpacking / DESCRIPTION, json.dumps(facts, indent=2).encode() + b"\n")
            sync_directory(unpacking)
            unpacking.rename(self.directory / archive.sha256)
            sync_directory(self.directory)
        finally:
            for left in (download, unpacking):
                _discard(left)

    def _check(self, toolchain: Toolchain, entry: Path) -> None:
        directory = entry / TREE / toolchain.bin
        for program in toolchain.programs:
            if not os.access(directory / program, os.X_OK):
                raise ToolchainError(
                    f"toolchain {toolchain}: its archive has no program {toolchain.bin}/{program}; "
                    "correct bin or programs"
                )
        if not directory.is_dir():
            raise ToolchainError(f"toolchain {toolchain}: its archive has no directory {toolchain.bin}; correct bin")

    def _remove(self, sha256: str) -> None:
        removing = self.directory / f".{sha256}.removing"
        _discard(removing)
        (self.directory / sha256).rename(removing)
        _discard(removing)

    def _lock(self, sha256: str) -> Path:
        return self.directory / f".{sha256}.lock"

    @contextmanager
    def _reported(self, toolchain: Toolchain) -> Iterator[None]:
        try:
            yield
        except DownloadError as error:
            raise DownloadError(
                f"toolchain {toolchain}: {error}; correct its urls or sha256, or check the network"
            ) from None
        except ArchiveError as error:
            raise ArchiveError(f"toolchain {toolchain}: {error}; pin another archive") from None
        except OSError as error:
            raise ToolchainError(
                f"toolchain {toolchain}: {self.directory}: {error.strerror or error}; "
                "free space there, or give another cache"
            ) from None


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
