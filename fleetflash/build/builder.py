"""From a board type to the artifact that its boards are pinned to: prepared, built once, checked, registered."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleetflash.build import output
from fleetflash.build.board_type import BoardType
from fleetflash.build.builds import CONFIG, LOG, Build, Builds, sha256
from fleetflash.build.compiler import Compiler, LocalCompiler
from fleetflash.build.configuration import CONFIG as DOT_CONFIG
from fleetflash.build.kconfig import Change
from fleetflash.build.last_builds import LastBuilds
from fleetflash.build.lock import held
from fleetflash.build.naming import named
from fleetflash.build.prepared import Preparations, Prepared
from fleetflash.build.source import Sources
from fleetflash.build.toolchain import Toolchain
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.build.workspace import workspace
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.registration import describe_image
from fleetflash.firmware.store import Store

Report = Callable[[str], None]


@dataclass(frozen=True)
class Prospect:
    """What ``ensure`` would do: build, register what is built, or nothing.

    ``changes``: of the configuration since this type's last build.
    """

    prepared: Prepared
    is_built: bool
    is_registered: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Outcome:
    """``built``: whether this very call compiled; not when the result was there, or another builder made it."""

    artifact: Artifact
    key: str
    built: bool
    changes: tuple[Change, ...]


class Builder:
    """Builds board types below a cache directory and registers what it built in an artifact store.

    + root: where ``templates/`` and overlays are
    + toolchains: name → what is pinned
    + report: is told what takes time, one line each
    + compiler: who compiles; by default this computer

    Raises ``BuildError`` and ``FirmwareError`` with their subclasses, in one line that names the board type.
    """

    def __init__(
        self,
        cache: Path,
        store: Store,
        root: Path,
        toolchains: Mapping[str, Toolchain],
        report: Report = lambda text: None,
        compiler: Compiler | None = None,
    ) -> None:
        self.store, self.root, self.pinned, self.report = store, root, toolchains, report
        self.cache = cache
        self.toolchains = ToolchainCache(cache / "toolchains")
        self.compiler: Compiler = compiler or LocalCompiler(self.toolchains)
        self.sources = Sources.below(cache)
        self.preparations = Preparations(cache / "configurations", self.sources)
        self.builds = Builds(cache / "builds", Build)
        self.last = LastBuilds(cache / "last", self.builds, CONFIG)

    def on(self, compiler: Compiler) -> "Builder":
        """Return a builder that has another one compile."""
        return Builder(self.cache, self.store, self.root, self.pinned, self.report, compiler)

    def prospect(self, board_type: BoardType) -> Prospect:
        """Say what ``ensure`` would do. Fetches the source if need be, but no toolchain, and compiles nothing."""
        with self._named(board_type):
            prepared = self._prepare(board_type)
            build = self.builds.find(prepared.key.id)
            is_registered = build is not None and self.store.has(self._describe(prepared, build, self.builds)[0])
            return Prospect(prepared, build is not None, is_registered, self._changes(prepared))

    def ensure(self, board_type: BoardType) -> Outcome:
        """Return the artifact of a board type, compiled only if nobody has done so before."""
        with self._named(board_type):
            prepared = self._prepare(board_type)
            changes = self._changes(prepared)
            key = prepared.key.id
            build, built = self.builds.find(key), False
            if build is None:
                build, built = self._build_once(prepared)
            artifact = self.store.publish(*self._describe(prepared, build, self.builds))
            self.last.remember(board_type.name, key)
            return Outcome(artifact, key, built, changes)

    def rebuild(self, board_type: BoardType) -> Artifact:
        """Compile a board type once more, whether or not it is built; return the artifact that this would be.

        Nothing is kept or registered: it is for comparing.
        """
        with self._named(board_type):
            prepared = self._prepare(board_type)
            with workspace(self.sources.work) as directory:
                aside = Builds(directory, Build)
                with held(self.builds.lock(prepared.key.id)):
                    build = self._make(prepared, aside)
                return self._describe(prepared, build, aside)[0]

    def _prepare(self, board_type: BoardType) -> Prepared:
        identity = self.compiler.identify(self.pinned[board_type.toolchain])
        return self.preparations.prepare(board_type, self.root, identity, self.report)

    def _build_once(self, prepared: Prepared) -> tuple[Build, bool]:
        """Return the build of a key, and whether it was made here; whoever comes second waits for the first."""
        key = prepared.key.id
        name = prepared.board_type.name
        with held(self.builds.lock(key), waiting=lambda: self.report(f"{name}: another builder makes {key[:12]}")):
            build = self.builds.find(key)
            if build is not None:
                return build, False
            return self._make(prepared, self.builds), True

    def _make(self, prepared: Prepared, builds: Builds[Build]) -> Build:
        board_type, started = prepared.board_type, time.monotonic()
        toolchain = self.pinned[board_type.toolchain]
        self.report(f"{board_type.name}: building {prepared.version}")
        log = self.cache / "logs" / f"{board_type.name}-{prepared.key.id[:12]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        with self.sources.worktree(prepared.revision, prepared.overlay) as tree:
            (tree.path / DOT_CONFIG).write_text(prepared.configuration)
            self.compiler.compile(tree.path, log, toolchain, prepared.key, self.report)
            out = tree.path / "out"
            image = output.load_output(out, board_type.image, board_type.flash_offset)
            address = output.application_address(out)
            output.check(image, address, board_type, prepared.version)
            output.check_dictionary(image, out)
            contents = {name: (out / name).read_bytes() for name in (board_type.image, output.DICTIONARY)}
        contents |= {CONFIG: prepared.configuration.encode(), LOG: log.read_bytes()}
        build = Build(
            key=prepared.key,
            repository=board_type.repository,
            toolchain=str(toolchain),
            address=address,
            files={name: sha256(content) for name, content in contents.items()},
            seconds=round(time.monotonic() - started, 3),
            created=datetime.now(UTC).replace(microsecond=0),
            builder=self.compiler.name,
        )
        builds.publish(build, contents)
        log.unlink(missing_ok=True)
        return build

    def _describe(self, prepared: Prepared, build: Build, builds: Builds[Build]) -> tuple[Artifact, dict[str, bytes]]:
        """Return the artifact that a build makes of a board type, and its files, checked: the key knows no chip."""
        board_type, directory = prepared.board_type, builds.path(build.key.id)
        image = output.load_output(directory, board_type.image, board_type.flash_offset)
        output.check(image, build.address, board_type, prepared.version)
        return describe_image(
            directory / board_type.image,
            chip=board_type.chip,
            name=board_type.firmware,
            offset=board_type.flash_offset or None if board_type.image.endswith(".bin") else None,
            build={
                "build": build.key.id,
                "commit": build.key.commit,
                "overlay": build.key.overlay,
                "configuration": build.key.configuration,
                "toolchain": build.toolchain,
                "toolchain_id": build.key.toolchain,
                "builder": build.builder,
            },
        )

    def _changes(self, prepared: Prepared) -> tuple[Change, ...]:
        return self.last.changes(prepared.board_type.name, prepared.configuration)

    def _named(self, board_type: BoardType) -> AbstractContextManager[None]:
        return named(f"board type {board_type.name}", self.cache)
