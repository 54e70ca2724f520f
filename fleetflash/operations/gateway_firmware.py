"""What shall be: the firmware of a gateway type is built with ESP-IDF and registered as an artifact."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.build.errors import BuildError
from fleetflash.build.idf.builder import GatewayBuilder
from fleetflash.build.idf.esp_idf import read_esp_idf
from fleetflash.build.idf.gateway_type import GatewayType, read_gateway_types
from fleetflash.build.location import cache_directory
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.operations.refusal import refuse


@operation()
def built(gateway_type: str) -> Generator[FunctionCommand, None, None]:
    """
    Build the firmware of a gateway type on this computer, unless anybody has done so before, and register its artifact.

    + gateway_type: its name in ``gateway_types`` of the host's data

    Reads ``gateway_types``, ``esp_idf`` and ``build_cache`` from the host's data. Only for ``@local``. Secrets are
    read where their sources are, and neither logged nor given to anything but the build.

    **Example:**

    .. code:: python

        gateway_firmware.built(name="Firmware of the gateway in Lyon", gateway_type="lyon")
    """
    try:
        builder, wanted = _builder(host, gateway_type)
        prospect = builder.prospect(wanted)
    except (BuildError, FirmwareError) as error:
        # Raised here, it would end the run for all hosts.
        yield FunctionCommand(refuse, (str(error),), {})
        return
    if prospect.is_registered:
        host.noop(f"{wanted.firmware} of {prospect.prepared.inputs.revision.version} is built already")
        return
    for change in prospect.changes:
        logger.info(f"{host.print_prefix}{gateway_type}: {change}")
    yield FunctionCommand(_build, (builder, wanted), {})


def _builder(target: Any, name: str) -> tuple[GatewayBuilder, GatewayType]:
    if target.name != "@local":
        raise BuildError(
            f"{target.name}: firmware of gateways is built on the controller only; put '@local' into the group builders"
        )
    toolchains = read_esp_idf(target.data.get("esp_idf", {}))
    types = read_gateway_types(target.data.get("gateway_types", {}), toolchains)
    if name not in types:
        raise BuildError(f"no gateway type {name!r}, there is {', '.join(sorted(types)) or 'none'}")
    cache = cache_directory(target.data.get("build_cache", ""))
    prefix = target.print_prefix
    builder = GatewayBuilder(cache, Store(), Path.cwd(), toolchains, lambda text: logger.info(f"{prefix}{text}"))
    return builder, types[name]


def _build(state: Any, host: Any, builder: GatewayBuilder, gateway_type: GatewayType) -> bool:
    try:
        outcome = builder.ensure(gateway_type)
    except (BuildError, FirmwareError) as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    logger.info(f"{host.print_prefix}{outcome.artifact}{'' if outcome.built else ', which was built already'}")
    return True
