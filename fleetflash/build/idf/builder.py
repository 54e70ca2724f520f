"""From a gateway type to the artifact that its gateways are pinned to: prepared, built once, checked, registered."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleetflash.build.builds import LOG, Builds, sha256
from fleetflash.build.idf import environment
from fleetflash.build.idf.bench import Bench, bench
from fleetflash.build.idf.configuration import SDKCONFIG, read, without_secrets
from fleetflash.build.idf.environment import Idf
from fleetflash.build.idf.esp_idf import EspIdf
from fleetflash.build.idf.gateway_build import ELF, FORMER, MAP, SIZE, GatewayBuild
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.idf.host_tests import run_host_tests
from fleetflash.build.idf.installation import place
from fleetflash.build.idf.output import IMAGE_MAGIC, read_output
from fleetflash.build.idf.prepared import Preparations, Prepared, check_same
from fleetflash.build.kconfig import Change
from fleetflash.build.last_builds import LastBuilds
from fleetflash.build.lock import held
from fleetflash.build.naming import named
from fleetflash.build.source import Sources
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.build.workspace import workspace
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.esp import FLASHER_ARGS
from fleetflash.firmware.registration import describe_image
from fleetflash.firmware.store import Store
from fleetflash.firmware.symbols import SymbolFiles

Report = Callable[[str], None]
#: Without it, places and times of a build are in its images (ESP-IDF guide, "Reproducible Builds").
_REPRODUCIBLE = "CONFIG_APP_REPRODUCIBLE_BUILD=y"


@dataclass(frozen=True)
class Prospect:
    """What ``ensure`` would do. ``changes``: of the configuration since this type's last build."""

    prepared: Prepared
    is_built: bool
    is_registered: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Outcome:
    """``built``: whether this very call compiled. ``stale``: what a ``sdkconfig`` of the source would have changed."""

    artifact: Artifact
    build: GatewayBuild
    built: bool
    changes: tuple[Change, ...]
    stale: tuple[Change, ...]


@dataclass(frozen=True)
class Rebuilt:
    """``artifact``: what a second build would be. ``images``: those of its files that are programs.

    ``reproducible``: whether its configuration promises that these are the same each time. ``new_secrets``: whether
    its secrets are others than those of the first build, as far as that is still in the cache.
    """

    artifact: Artifact
    images: frozenset[str]
    reproducible: bool
    new_secrets: bool


class GatewayBuilder:
    """Builds gateway types below a cache directory and registers what it built in an artifact store.

    + root: where ``templates/`` and overlays are
    + toolchains: name → the ESP-IDF that is pinned
    + report: is told what takes time, one line each

    Raises ``BuildError`` and ``FirmwareError`` with their subclasses, in one line that names the gateway type.
    """

    def __init__(
        self,
        cache: Path,
        store: Store,
        root: Path,
        toolchains: Mapping[str, EspIdf],
        report: Report = lambda text: None,
    ) -> None:
        self.cache, self.store, self.root, self.pinned, self.report = cache, store, root, toolchains, report
        self.symbols = SymbolFiles.of(store)
        self.toolchains = ToolchainCache(cache / "toolchains")
        self.preparations = Preparations(cache, Sources.below(cache))
        self.builds = Builds(cache / "gateway-builds", GatewayBuild)
        self.last = LastBuilds(cache / "last-gateway", self.builds, SDKCONFIG)
        self._ready: dict[tuple[str, str, bool], Idf] = {}

    def prospect(self, gateway: GatewayType) -> Prospect:
        """Say what ``ensure`` would do: makes and checks the configuration, and compiles nothing."""
        with self._named(gateway), self._prepared(gateway) as prepared:
            build = self.builds.find(prepared.key.id)
            is_registered = build is not None and self.store.has(self._describe(prepared, build, self.builds)[0])
            return Prospect(prepared, build is not None, is_registered, self._changes(prepared))

    def ensure(self, gateway: GatewayType) -> Outcome:
        """Return the artifact of a gateway type, compiled only if nobody has done so before."""
        with self._named(gateway), self._prepared(gateway) as prepared:
            changes = self._changes(prepared)
            build, built = self.builds.find(prepared.key.id), False
            if build is None:
                build, built = self._build_once(prepared)
            artifact = self.store.publish(*self._describe(prepared, build, self.builds))
            self._keep_symbols(build)
            self.last.remember(gateway.name, prepared.key.id)
            return Outcome(artifact, build, built, changes, prepared.stale)

    def rebuild(self, gateway: GatewayType, first: str) -> Rebuilt:
        """Build a gateway type once more, without its host tests, whether or not it is built.

        + first: the key of the build that it is compared with

        Nothing is kept or registered; the images, which hold the secrets, are gone even when the builder was killed.
        """
        untested = gateway.model_copy(update={"tests": None})
        with self._named(gateway), self._prepared(untested) as prepared:
            with workspace(self.preparations.sources.work) as directory:
                aside = Builds(directory, GatewayBuild)
                artifact, contents = self._describe(prepared, self._make(prepared, aside), aside)
            before = self.builds.find(first)
            return Rebuilt(
                artifact,
                frozenset(name for name, content in contents.items() if content[:1] == IMAGE_MAGIC),
                _REPRODUCIBLE in prepared.configuration.splitlines(),
                before is not None and before.key.secrets != prepared.key.secrets,
            )

    @contextmanager
    def _prepared(self, gateway: GatewayType) -> Iterator[Prepared]:
        """Yield what a gateway type comes to; its ESP-IDF stays in the cache meanwhile."""
        pinned, wanted = self.pinned[gateway.esp_idf], (gateway.esp_idf, gateway.target, gateway.web)
        with place(pinned, gateway.target, self.toolchains, self.report) as found:
            if wanted not in self._ready:
                self._ready[wanted] = environment.check(pinned, found, gateway.target, node=gateway.web)
            yield self.preparations.prepare(gateway, self.root, self._ready[wanted], self.report)

    def _build_once(self, prepared: Prepared) -> tuple[GatewayBuild, bool]:
        """Return the build of a key, and whether it was made here; whoever comes second waits for the first."""
        key, name = prepared.key.id, prepared.inputs.gateway.name
        # The images hold the secrets, so they are their owner's alone.
        self.builds.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(self.builds.lock(key), waiting=lambda: self.report(f"{name}: another builder makes {key[:12]}")):
            build = self.builds.find(key)
            return (build, False) if build is not None else (self._make(prepared, self.builds), True)

    def _make(self, prepared: Prepared, builds: Builds[GatewayBuild]) -> GatewayBuild:
        gateway, started = prepared.inputs.gateway, time.monotonic()
        self.report(f"{gateway.name}: building {prepared.inputs.revision.version} for {gateway.target}")
        for change in prepared.stale:
            self.report(
                f"{gateway.name}: the source's sdkconfig would have overridden {change}; made anew, former kept"
            )
        log = self.cache / "logs" / f"{gateway.name}-{prepared.key.id[:12]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        with bench(prepared.inputs, self.preparations.sources, self.preparations.components, log) as there:
            contents, build = self._compile(prepared, there, started)
        contents[LOG] = log.read_bytes()
        build = build.model_copy(update={"files": {name: sha256(content) for name, content in contents.items()}})
        builds.publish(build, contents)
        log.unlink(missing_ok=True)
        return build

    def _compile(self, prepared: Prepared, there: Bench, started: float) -> tuple[dict[str, bytes], GatewayBuild]:
        gateway, idf_py = prepared.inputs.gateway, there.idf_py
        idf_py.run("idf.py", *there.files.options(), "build")
        check_same(prepared, without_secrets(read(there.files.sdkconfig), idf_py.secrets))
        output = read_output(idf_py.project / "build", gateway.chip, prepared.inputs.idf.version)
        size = idf_py.run("idf.py", *there.files.options(), "size")
        full = f"{output.app_bytes} of {output.app_room} bytes ({output.app_bytes / output.app_room:.0%})"
        self.report(f"{gateway.name}: the application takes {full} of its partition")
        contents = {
            **output.files,
            SDKCONFIG: prepared.configuration.encode(),
            SIZE: size.encode(),
            **{layer.name: layer.text.encode() for layer in prepared.inputs.layers},
        }
        if prepared.former:
            contents[FORMER] = prepared.former.encode()
        if gateway.tests is not None:
            self.report(f"{gateway.name}: running its host tests")
            failed = idf_py.log.with_name(f"{idf_py.log.stem}-tests")
            contents |= run_host_tests(gateway.tests, idf_py, failed)
        build = GatewayBuild(
            key=prepared.key,
            files={},
            repository=gateway.repository,
            version=output.version,
            idf_version=output.idf_version,
            elf_sha256=output.elf_sha256,
            app_bytes=output.app_bytes,
            app_room=output.app_room,
            seconds=round(time.monotonic() - started, 3),
            created=datetime.now(UTC).replace(microsecond=0),
        )
        return contents, build

    def _describe(
        self, prepared: Prepared, build: GatewayBuild, builds: Builds[GatewayBuild]
    ) -> tuple[Artifact, dict[str, bytes]]:
        """Return the artifact of a build, and its files; its facts, which everybody may read, hold no secret."""
        return describe_image(
            builds.path(build.id) / FLASHER_ARGS,
            chip=prepared.inputs.gateway.target,
            name=prepared.inputs.gateway.firmware,
            build={
                "build": build.id,
                "commit": build.key.commit,
                "overlay": build.key.overlay,
                "configuration": build.key.configuration,
                "toolchain": f"ESP-IDF {build.idf_version}",
                "toolchain_id": build.key.esp_idf,
                "target": build.key.target,
                "site": prepared.inputs.gateway.site,
                "app_bytes": build.app_bytes,
                "app_room": build.app_room,
            },
        )

    def _keep_symbols(self, build: GatewayBuild) -> None:
        directory = self.builds.path(build.id)
        self.symbols.publish((directory / ELF).read_bytes(), (directory / MAP).read_bytes())

    def _changes(self, prepared: Prepared) -> tuple[Change, ...]:
        return self.last.changes(prepared.inputs.gateway.name, prepared.configuration)

    def _named(self, gateway: GatewayType) -> AbstractContextManager[None]:
        return named(f"gateway type {gateway.name}", self.cache)
