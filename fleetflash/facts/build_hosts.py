"""What is: the hosts of the group ``builders``, what they compile with, and so who builds what in this run."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import ConnectError

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.compiler import LOCAL, Compiler, LocalCompiler
from fleetflash.build.errors import BuildError, BuildHostError
from fleetflash.build.host_compiler import DIRECTORY, HostCompiler
from fleetflash.build.leftovers import sweep
from fleetflash.build.location import cache_directory
from fleetflash.build.spread import spread
from fleetflash.build.toolchain import Toolchain, read_toolchains
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.facts.decision import transport

#: The group; ``LOCAL`` is the one of it that is this computer.
GROUP = "builders"

_one_at_a_time = threading.Lock()
_compilers: dict[tuple[int, str], Compiler] = {}
_assignments: dict[int, dict[str, str]] = {}


def board_types(host: Any) -> tuple[dict[str, BoardType], dict[str, Toolchain]]:
    """Return the board types and toolchains of a host's data; raises ``BoardTypeError``."""
    toolchains = read_toolchains(host.data.get("toolchains", {}))
    return read_board_types(host.data.get("board_types", {}), toolchains), toolchains


def compiler(host: Any, toolchains: Mapping[str, Toolchain], cache: Path) -> Compiler:
    """Return what compiles on a host, one for a run, so that an SSH host is looked at once."""
    key = id(host.state), host.name
    if key not in _compilers:
        cached = ToolchainCache(cache / "toolchains")
        if host.name == LOCAL:
            _compilers[key] = LocalCompiler(cached)
        else:
            _compilers[key] = _on_host(host, toolchains, cached)
    return _compilers[key]


def _on_host(host: Any, toolchains: Mapping[str, Toolchain], cached: ToolchainCache) -> HostCompiler:
    packages = {package for toolchain in toolchains.values() for package in toolchain.debian}
    directory = str(host.data.get("build_directory", "") or DIRECTORY)
    return HostCompiler(host.name, lambda: transport(host), cached, packages, directory)


def leftovers(host: Any, *, here: bool, remove: bool) -> list[str]:
    """Return one line for each thing that builders that died have left, and have it removed if asked.

    + here: in this computer's build cache, instead of on the host

    Raises ``BuildError``.
    """
    cache = cache_directory(host.data.get("build_cache", ""))
    if here:
        return sweep(cache, remove=remove)
    return _on_host(host, {}, ToolchainCache(cache / "toolchains")).sweep(remove=remove)


def find(state: Any, name: str, toolchains: Mapping[str, Toolchain], cache: Path) -> Compiler | None:
    """Return what compiles on a builder, whether or not this run has connected to it; ``None`` when there is none.

    Raises ``BuildHostError`` when it can't be reached.
    """
    host = next((host for host in state.inventory.groups.get(GROUP, []) if host.name == name), None)
    if host is None:
        return None
    try:
        host.connect(show_errors=False, raise_exceptions=True)
    except ConnectError as error:
        raise BuildHostError(
            f"{name}: {error}; it has compiled what is compared, so run again when it is back"
        ) from None
    return compiler(host, toolchains, cache)


def assignment(state: Any) -> dict[str, str]:
    """Return board type → name of the host that builds it in this run.

    Only builders that answered and have the toolchain are asked; when none has it, one of them says what is missing.
    """
    with _one_at_a_time:
        if id(state) not in _assignments:
            _assignments[id(state)] = _assign(present(state))
        return _assignments[id(state)]


def present(state: Any) -> list[Any]:
    """Return the builders of this run."""
    group = state.inventory.get_group(GROUP)
    return [host for host in group if host in state.active_hosts and state.is_host_in_limit(host)]


def _assign(builders: list[Any]) -> dict[str, str]:
    described: dict[str, list[str]] = {}
    able: dict[str, list[str]] = {}
    for host in builders:
        names = host.data.get("board_types", {})
        for name in names if isinstance(names, Mapping) else ():
            described.setdefault(str(name), []).append(host.name)
        for name in _able(host):
            able.setdefault(name, []).append(host.name)
    return spread({name: able.get(name) or hosts for name, hosts in described.items()})


def _able(host: Any) -> list[str]:
    """Return the board types whose toolchain a host has; none when it can't be asked, or its data is wrong."""
    found = []
    try:
        types, toolchains = board_types(host)
    except BuildError:
        return []
    compiles = compiler(host, toolchains, cache_directory(host.data.get("build_cache", "")))
    for name, board_type in types.items():
        try:
            compiles.identify(toolchains[board_type.toolchain])
        except BuildError:
            continue
        found.append(name)
    return found
