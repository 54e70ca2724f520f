"""Who compiles: this computer, or a host that does it for us (``build.host_compiler``)."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetflash.build.builds import BuildKey
from fleetflash.build.make import Make
from fleetflash.build.toolchain import Toolchain
from fleetflash.build.toolchain_cache import ToolchainCache

Report = Callable[[str], None]
#: The builder that is this computer.
LOCAL = "@local"


@dataclass(frozen=True)
class CompilerIdentity:
    """What of a compiling computer decides the output: its toolchain's identity, and its zlib's version."""

    toolchain: str
    zlib: str


class Compiler(Protocol):
    """``name``: of the builder. Raises ``BuildError`` and its subclasses, in one line."""

    @property
    def name(self) -> str:
        """Return ``@local``, or what the host is called."""

    def identify(self, toolchain: Toolchain) -> CompilerIdentity:
        """Say what a build would be made with; packages must be installed for it, archives need not be fetched."""

    def compile(self, tree: Path, log: Path, toolchain: Toolchain, key: BuildKey, report: Report) -> None:
        """Make a clean worktree with its whole ``.config``; leaves ``out/`` in it, and what was said in the log."""


class LocalCompiler:
    """This computer."""

    name = LOCAL

    def __init__(self, toolchains: ToolchainCache) -> None:
        self.toolchains = toolchains

    def identify(self, toolchain: Toolchain) -> CompilerIdentity:
        return CompilerIdentity(self.toolchains.identify(toolchain), zlib.ZLIB_RUNTIME_VERSION)

    def compile(self, tree: Path, log: Path, toolchain: Toolchain, key: BuildKey, report: Report) -> None:
        with self.toolchains.use(toolchain, report) as tools:
            Make(tree, log, tools.bin).run()
