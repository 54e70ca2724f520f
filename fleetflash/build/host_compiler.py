"""A host of the group ``builders`` as a compiler: reached over SSH, given the source and if need be the toolchain.

Sources, configurations, checks and the store stay with the controller; the host keeps nothing but toolchains.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetflash.build import debian
from fleetflash.build.builds import BuildKey
from fleetflash.build.compiler import CompilerIdentity, Report
from fleetflash.build.errors import BuildHostError, ToolchainError
from fleetflash.build.host_build import ArchiveTools, HostBuild, HostFacts, look, sweep
from fleetflash.build.progress import Progress
from fleetflash.build.shipment import pack_source, pack_tree
from fleetflash.build.toolchain import Archive, Toolchain, identity
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.link.errors import LinkError
from fleetflash.link.session import AgentSession

#: Where a host builds when its data says nothing else.
DIRECTORY = "~/.cache/fleetflash/builder"


class HostCompiler:
    """One host, which is looked at once.

    + host: its name, for messages
    + connect: returns an authenticated paramiko transport, or raises ``LinkError``
    + toolchains: the controller's, where archives are unpacked before they go to the host, whatever its architecture
    + packages: Debian packages of all toolchains that will be asked for
    + directory: where on the host; absolute or with ``~``

    Raises ``BuildError`` and its subclasses in one line that names the host.
    """

    def __init__(
        self,
        host: str,
        connect: Callable[[], Any],
        toolchains: ToolchainCache,
        packages: Collection[str],
        directory: str = DIRECTORY,
    ) -> None:
        self.host, self.connect, self.toolchains, self.directory = host, connect, toolchains, directory
        self.name = host
        self.packages = sorted(packages)
        self._facts: HostFacts | None = None

    def identify(self, toolchain: Toolchain) -> CompilerIdentity:
        if self._facts is None:
            with self._session() as session:
                self._facts = look(session, self.packages)
        return self._identity(toolchain, self._facts)

    def compile(self, tree: Path, log: Path, toolchain: Toolchain, key: BuildKey, report: Report) -> None:
        def check(facts: HostFacts) -> None:
            self._facts = facts
            if self._identity(toolchain, facts) != CompilerIdentity(key.toolchain, key.zlib):
                raise BuildHostError(f"{self.host}: {toolchain} has changed there since it was looked at; run again")

        def send_toolchain(file: Any) -> None:
            with self.toolchains.tree(toolchain, self._archive(toolchain), report) as unpacked:
                report(f"{self.host}: gets toolchain {toolchain}")
                pack_tree(unpacked, file)

        tools = None
        if toolchain.archives:
            tools = ArchiveTools(self._archive(toolchain).sha256, toolchain.bin, send_toolchain)
        progress = Progress(lambda text: report(f"{self.host}: {text}"))
        with self._session() as session:
            build = HostBuild(session, self.directory, log, progress)
            build.run(self.packages, tools, check, lambda file: pack_source(tree, file), tree / "out")

    def sweep(self, *, remove: bool) -> list[str]:
        """Return one line for each thing that builders that died have left there, and have it removed if asked."""
        with self._session() as session:
            return sweep(session, self.directory, remove)

    def _identity(self, toolchain: Toolchain, facts: HostFacts) -> CompilerIdentity:
        if toolchain.archives:
            return CompilerIdentity(identity({"archive": self._archive(toolchain).sha256}), facts.zlib)
        if not facts.debian:
            raise ToolchainError(
                f"{self.host}: toolchain {toolchain}: no dpkg-query there, so it is no Debian; pin an archive instead"
            )
        try:
            return CompilerIdentity(identity(debian.judge(toolchain.debian, facts.packages)), facts.zlib)
        except ToolchainError as error:
            raise ToolchainError(f"{self.host}: toolchain {toolchain}: {error}") from None

    def _archive(self, toolchain: Toolchain) -> Archive:
        assert self._facts is not None, "a key was made, so the host was looked at"
        try:
            return toolchain.archive(self._facts.machine)
        except ToolchainError as error:
            raise ToolchainError(f"{self.host}: {error}") from None

    @contextmanager
    def _session(self) -> Iterator[AgentSession]:
        try:
            with AgentSession(self.connect(), self.host, ["compile"]) as session:
                yield session
        except LinkError as error:
            raise BuildHostError(str(error)) from None
