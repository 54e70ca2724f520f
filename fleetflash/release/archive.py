"""The releases that are kept: one directory each, which can be copied away and checked without fleetflash.

::

    <releases>/<id>/release.json    the record
    <releases>/<id>/SHA256SUMS      of all other files, for sha256sum -c (coreutils, sha256sum(1))
    <releases>/<id>/artifact/       the files for flash and artifact.json
    <releases>/<id>/build/          sdkconfig without secrets, its layers, size, logs, ELF and map
    <releases>/<id>/boot/           the contract, and every monitor.log of the last flash
    <releases>/<id>/captures/       CAN frames

The images hold what was built into them, Wi-Fi passwords too: everything is its owner's alone. A release appears
complete or not at all, and is never changed.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fleetflash.firmware.durable import one_writer, sync_directory, write_new
from fleetflash.release.location import ENVIRONMENT, default_releases
from fleetflash.release.release import Release, ReleaseError, parse_release

RECORD, SUMS = "release.json", "SHA256SUMS"
_LOCK = ".lock"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class Releases:
    """Releases below a directory, which need not exist. Raises ``ReleaseError``."""

    def __init__(self, directory: Path | str | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory else default_releases()

    def keep(self, release: Release, contents: Mapping[str, bytes]) -> Release:
        """Write a release; return it with the hashes of its files.

        + contents: path below the release → content
        """
        whole = release.model_copy(update={"files": {name: _sha256(content) for name, content in contents.items()}})
        with self._reported():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_writer(self.directory / _LOCK):
                final = self.directory / whole.id
                if final.exists():
                    raise ReleaseError(f"{final} is there already; a release is never changed, make another one")
                self._write(whole, contents, final)
        return whole

    def get(self, id: str) -> Release:
        """Return the release whose id begins so, or the last one of the board of that name."""
        ids = self._ids()
        found = [each for each in ids if each.startswith(id)] if _ID.fullmatch(id) else []
        if id in ids:
            return self._read(id)
        if len(found) > 1:
            raise ReleaseError(f"{len(found)} releases begin with {id}: {', '.join(found)}; give more of one")
        if found:
            return self._read(found[0])
        of_board = [release for release in self.releases() if id in (release.board, f"{release.host}/{release.board}")]
        if not of_board:
            raise ReleaseError(f"no release {id!r} in {self.directory}; 'fleetflash release list' shows them")
        return of_board[-1]

    def releases(self) -> list[Release]:
        """Return all of them, oldest first."""
        return sorted(map(self._read, self._ids()), key=lambda release: (release.at, release.id))

    def path(self, release: Release) -> Path:
        return self.directory / release.id

    def problems(self, release: Release) -> list[str]:
        """Return what is not as it was when the release was made: one line a file that is missing, other or added."""
        directory = self.path(release)
        found = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
        stray = [f"{name}: was added" for name in sorted(found - {*release.files, RECORD, SUMS})]
        return [*stray, *self._content_problems(release)]

    def export(self, release: Release, target: Path) -> Path:
        """Copy a release below ``target``, checked before and complete or not at all; return its directory there."""
        if problems := self.problems(release):
            raise ReleaseError(f"{self.path(release)}: {problems[0]}; it is damaged, and not copied")
        final = target / release.id
        if final.exists():
            raise ReleaseError(f"{final} is there already; take it away, or name another directory")
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".copying-", dir=target))
            try:
                shutil.copytree(self.path(release), draft, dirs_exist_ok=True)
                sync_directory(draft)
                draft.rename(final)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            sync_directory(target)
        except OSError as error:
            raise ReleaseError(f"{target}: {error.strerror or error}; free space there, or name another") from None
        return final

    def _ids(self) -> list[str]:
        with self._reported():
            return sorted(
                path.parent.name for path in self.directory.glob(f"*/{RECORD}") if _ID.match(path.parent.name)
            )

    def _read(self, id: str) -> Release:
        path = self.directory / id / RECORD
        with self._reported():
            return parse_release(path.read_bytes(), str(path))

    def _content_problems(self, release: Release) -> Iterator[str]:
        for name, expected in sorted(release.files.items()):
            try:
                content = (self.path(release) / name).read_bytes()
            except OSError as error:
                yield f"{name}: {error.strerror}"
                continue
            if _sha256(content) != expected:
                yield f"{name}: sha256 {_sha256(content)[:12]}, expected {expected[:12]}"

    def _write(self, release: Release, contents: Mapping[str, bytes], final: Path) -> None:
        draft = Path(tempfile.mkdtemp(prefix=".keeping-", dir=self.directory))
        sums = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(release.files.items()))
        try:
            for name, content in {**contents, SUMS: sums.encode(), RECORD: release.to_json()}.items():
                path = draft / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_new(path, content, 0o600)
            for directory in (path for path in draft.rglob("*") if path.is_dir()):
                sync_directory(directory)
            sync_directory(draft)
            draft.rename(final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_directory(self.directory)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.directory
            raise ReleaseError(f"{where}: {error.strerror or error}; name another place with ${ENVIRONMENT}") from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
