"""What shall be: the firmware of a board type is built, here or on the host, and registered as an artifact."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildError
from fleetflash.build.location import cache_directory
from fleetflash.facts import build_hosts
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
    types, toolchains = build_hosts.board_types(target)
    if name not in types:
        raise BuildError(f"no board type {name!r}, there is {', '.join(sorted(types)) or 'none'}")
    cache = cache_directory(target.data.get("build_cache", ""))
    compiler = build_hosts.compiler(target, toolchains, cache)
    prefix = target.print_prefix
    builder = Builder(cache, Store(), Path.cwd(), toolchains, lambda text: logger.info(f"{prefix}{text}"), compiler)
    return builder, types[name]


def _build(state: Any, host: Any, builder: Builder, board_type: BoardType) -> bool:
    try:
        outcome = builder.ensure(board_type)
    except (BuildError, FirmwareError) as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    logger.info(f"{host.print_prefix}{outcome.artifact}{'' if outcome.built else ', which was built already'}")
    return True
