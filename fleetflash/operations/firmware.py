"""What shall be: the firmware of a board type is built, here or on the host, and registered as an artifact."""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildError
from fleetflash.build.host_compiler import DIRECTORY, HostCompiler
from fleetflash.build.location import cache_directory
from fleetflash.build.toolchain import Toolchain, read_toolchains
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.facts.decision import transport
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.operations.refusal import refuse


@operation()
def built(board_type: str) -> Generator[FunctionCommand, None, None]:
    """
    Have the host compile the firmware of a board type, unless anybody has done so before, and register its artifact.

    + board_type: its name in ``board_types`` of the host's data

    Reads ``board_types``, ``toolchains``, ``build_cache`` (here) and ``build_directory`` (on the host) from the host's
    data. ``@local`` compiles on this computer, another host over SSH.

    **Example:**

    .. code:: python

        firmware.built(name="Firmware of the toolheads", board_type="toolhead")
    """
    try:
        builder, wanted = _builder(host, board_type)
        prospect = builder.prospect(wanted)
    except (BuildError, FirmwareError) as error:
        # Raised here, it would end the run for all hosts.
        yield FunctionCommand(refuse, (str(error),), {})
        return
    if prospect.is_registered:
        host.noop(f"{wanted.firmware} {prospect.prepared.version} is built already")
        return
    for change in prospect.changes:
        logger.info(f"{host.print_prefix}{board_type}: {change}")
    yield FunctionCommand(_build, (builder, wanted), {})


def _builder(target: Any, name: str) -> tuple[Builder, BoardType]:
    toolchains = read_toolchains(target.data.get("toolchains", {}))
    types = read_board_types(target.data.get("board_types", {}), toolchains)
    if name not in types:
        raise BuildError(f"no board type {name!r}, there is {', '.join(sorted(types)) or 'none'}")
    cache = cache_directory(target.data.get("build_cache", ""))
    prefix = target.print_prefix
    compiler = None if target.name == "@local" else _compiler(target, toolchains, cache)
    builder = Builder(cache, Store(), Path.cwd(), toolchains, lambda text: logger.info(f"{prefix}{text}"), compiler)
    return builder, types[name]


_compilers: dict[tuple[int, str], HostCompiler] = {}


def _compiler(target: Any, toolchains: Mapping[str, Toolchain], cache: Path) -> HostCompiler:
    """Return the compiler of an SSH host, one for a run, so that the host is looked at once."""
    key = id(target.state), target.name
    if key not in _compilers:
        packages = {package for toolchain in toolchains.values() for package in toolchain.debian}
        directory = str(target.data.get("build_directory", "") or DIRECTORY)
        cached = ToolchainCache(cache / "toolchains")
        _compilers[key] = HostCompiler(target.name, lambda: transport(target), cached, packages, directory)
    return _compilers[key]


def _build(state: Any, host: Any, builder: Builder, board_type: BoardType) -> bool:
    try:
        outcome = builder.ensure(board_type)
    except (BuildError, FirmwareError) as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    logger.info(f"{host.print_prefix}{outcome.artifact}{'' if outcome.built else ', which was built already'}")
    return True
