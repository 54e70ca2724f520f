"""What a board type comes to before anything is compiled, remembered, since working it out takes a worktree."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build import kconfig
from fleetflash.build.board_type import BoardType
from fleetflash.build.builds import BuildKey
from fleetflash.build.compiler import CompilerIdentity
from fleetflash.build.configuration import complete, render
from fleetflash.build.lock import held
from fleetflash.build.make import Make
from fleetflash.build.overlay import Overlay
from fleetflash.build.source import Revision, Sources
from fleetflash.firmware.durable import sync_directory, write_read_only


@dataclass(frozen=True)
class Prepared:
    """``version``: what the firmware will report. ``configuration``: the effective one, as text."""

    board_type: BoardType
    revision: Revision
    overlay: Overlay
    version: str
    configuration: str
    key: BuildKey


class Preparations:
    """Versions and effective configurations below a directory, by the sha256 over what they follow from."""

    def __init__(self, directory: Path, sources: Sources) -> None:
        self.directory, self.sources = directory, sources

    def prepare(
        self,
        board_type: BoardType,
        root: Path,
        identity: CompilerIdentity,
        report: Callable[[str], None] = lambda text: None,
    ) -> Prepared:
        """Resolve the source, read the overlay and complete the configuration of a board type.

        + root: where ``templates/`` and the overlay are
        + identity: of what will compile it

        Raises ``BuildError`` and its subclasses.
        """
        asked = render(board_type, root / "templates")
        overlay = Overlay.read(root / board_type.overlay) if board_type.overlay else Overlay("")
        revision = self.sources.resolve(board_type.repository, board_type.ref, report)
        inputs = [revision.commit, revision.version, overlay.hash, asked]
        version, configuration = self._remembered(
            hashlib.sha256(json.dumps(inputs).encode()).hexdigest(), revision, overlay, asked
        )
        key = BuildKey(
            commit=revision.commit,
            version=version,
            overlay=overlay.hash,
            configuration=configuration_hash(configuration),
            toolchain=identity.toolchain,
            zlib=identity.zlib,
            image=board_type.image,
        )
        return Prepared(board_type, revision, overlay, version, configuration, key)

    def _remembered(self, id: str, revision: Revision, overlay: Overlay, asked: str) -> tuple[str, str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{id}.json"
        with held(self.directory / f".{id}.lock"):
            found = _recall(path)
            if found is None:
                log = self.directory / f"{id}.log"
                log.unlink(missing_ok=True)
                with self.sources.worktree(revision, overlay) as tree:
                    found = tree.version, complete(Make(tree.path, log), asked)
                _remember(path, *found)
                log.unlink(missing_ok=True)
        return found


def _recall(path: Path) -> tuple[str, str] | None:
    """Return version and configuration; ``None`` when they are not there, or what is there is damaged."""
    try:
        found = json.loads(path.read_text())
        return str(found["version"]), str(found["config"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, version: str, configuration: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    write_read_only(temporary, json.dumps({"version": version, "config": configuration}).encode())
    temporary.rename(path)
    sync_directory(path.parent)


def configuration_hash(text: str) -> str:
    """Return the sha256 over what a configuration says, whatever its comments and order."""
    return hashlib.sha256(json.dumps(kconfig.parse(text), sort_keys=True).encode()).hexdigest()
