"""A clean worktree in which ``idf.py`` can run: submodules, overlay, secret files and configuration laid out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import SourceError
from fleetflash.build.git import git
from fleetflash.build.idf.configuration import Files, lay_out
from fleetflash.build.idf.environment import Idf
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.idf.idf_py import IdfPy
from fleetflash.build.idf.layers import Layer
from fleetflash.build.idf.vault import Vault
from fleetflash.build.overlay import Overlay
from fleetflash.build.source import Revision, Sources


@dataclass(frozen=True)
class Inputs:
    """All that a build follows from, resolved."""

    gateway: GatewayType
    idf: Idf
    revision: Revision
    overlay: Overlay
    layers: tuple[Layer, ...]
    vault: Vault


@dataclass(frozen=True)
class Bench:
    """``idf_py``: in the project of the worktree. ``files``: the layers, and the sdkconfig that is made of them."""

    idf_py: IdfPy
    files: Files


@contextmanager
def bench(inputs: Inputs, sources: Sources, components: Path, log: Path) -> Iterator[Bench]:
    """Yield a bench; worktree, secrets and all that was built are gone afterwards, even when the builder was killed.

    + components: a directory that is kept, for managed components
    + log: what ``idf.py`` says is appended to it

    Raises ``SourceError``, ``OverlayError`` or ``ConfigurationError``.
    """
    components.mkdir(parents=True, exist_ok=True)
    gateway, vault = inputs.gateway, inputs.vault
    with sources.worktree(inputs.revision, inputs.overlay) as tree:
        _fetch_submodules(tree.path)
        project = tree.path / gateway.project
        if not (project / "CMakeLists.txt").is_file():
            raise SourceError(f"{gateway.repository} has no CMakeLists.txt in {gateway.project!r}; correct project")
        # Beside the worktree, in the same directory of mode 0700, so that git finds the source as it was.
        home = tree.path.parent / "home"
        home.mkdir(mode=0o700)
        vault.write_files(project)
        files = lay_out(inputs.layers, vault.layers, project, home)
        yield Bench(IdfPy(inputs.idf, gateway.target, project, home, components, log, vault.all()), files)


def _fetch_submodules(tree: Path) -> None:
    """Check out the submodules that the commit names; source: gitsubmodules(7), and the guide, chapter 1, step 2."""
    if (tree / ".gitmodules").is_file():
        git(tree, "submodule", "update", "--quiet", "--init", "--recursive", user=True)
