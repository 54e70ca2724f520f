"""What is laid over a firmware's source: extra files, and patches.

    <overlay>/files/src/bmcu/motor.c      becomes src/bmcu/motor.c
    <overlay>/patches/0001-kconfig.patch  applied in the order of their names

A port that is not in Klipper itself, such as the BMCU-C's, is kept this way beside the inventory.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import OverlayError, SourceError
from fleetflash.build.git import git


@dataclass(frozen=True)
class ExtraFile:
    path: str
    content: bytes
    executable: bool


@dataclass(frozen=True)
class Patch:
    name: str
    content: bytes


@dataclass(frozen=True)
class Overlay:
    """Files and patches as they were read; nothing of them is read again, so that the hash is that of what is built."""

    name: str
    files: tuple[ExtraFile, ...] = ()
    patches: tuple[Patch, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> "Overlay":
        """Read an overlay's directory; raises ``OverlayError``."""
        files, patches = directory / "files", directory / "patches"
        if not files.is_dir() and not patches.is_dir():
            raise OverlayError(f"overlay {directory}: neither files/ nor patches/ in it; see docs/builds.md")
        strange = sorted({path.name for path in directory.iterdir()} - {"files", "patches", "README.md"})
        if strange:
            raise OverlayError(f"overlay {directory}: {strange[0]} is none of files/, patches/ and README.md; move it")
        return cls(
            directory.name,
            tuple(_read_file(path, files) for path in sorted(files.rglob("*")) if not _is_directory(path)),
            tuple(Patch(path.name, path.read_bytes()) for path in sorted(patches.glob("*.patch"))),
        )

    @property
    def hash(self) -> str:
        """The sha256 over all names, contents and modes; empty for an overlay without anything."""
        if not self.files and not self.patches:
            return ""
        parts = [["file", f.path, f.executable, hashlib.sha256(f.content).hexdigest()] for f in self.files]
        parts += [["patch", p.name, hashlib.sha256(p.content).hexdigest()] for p in self.patches]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def apply(self, tree: Path) -> list[str]:
        """Lay it over a clean worktree and return what was there already; raises ``OverlayError``.

        A file that the source has with another content is an error: a copy would silently undo what upstream changes.
        """
        there = [file.path for file in self.files if not self._lay(file, tree)]
        return there + [patch.name for patch in self.patches if not self._patch(patch, tree)]

    def _lay(self, file: ExtraFile, tree: Path) -> bool:
        target = tree / file.path
        if os.path.lexists(target):
            if target.is_file() and not target.is_symlink() and target.read_bytes() == file.content:
                return False
            raise OverlayError(
                f"overlay {self.name}: the source has another {file.path} of its own; make the difference a patch"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise OverlayError(
                f"overlay {self.name}: {file.path} needs a directory where the source has a file"
            ) from None
        target.write_bytes(file.content)
        target.chmod(0o755 if file.executable else 0o644)
        return True

    def _patch(self, patch: Patch, tree: Path) -> bool:
        try:
            git(tree, "apply", "--whitespace=nowarn", "-", input=patch.content)
            return True
        except SourceError as error:
            try:
                git(tree, "apply", "--check", "--reverse", "-", input=patch.content)
                return False
            except SourceError:
                raise OverlayError(
                    f"overlay {self.name}: {patch.name} does not apply ({str(error).removeprefix('git apply: ')}); "
                    "make it anew for this commit, or pin another"
                ) from None


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _read_file(path: Path, root: Path) -> ExtraFile:
    name = path.relative_to(root).as_posix()
    if path.is_symlink() or not path.is_file():
        raise OverlayError(f"overlay file {path}: expected a regular file; copy what it stands for")
    if name.split("/")[0] == ".git":
        raise OverlayError(f"overlay file {path}: .git is the worktree's own; remove it")
    return ExtraFile(name, path.read_bytes(), os.access(path, os.X_OK))
