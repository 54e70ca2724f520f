"""What shall be: the virtualenv with esptool that the agent flashes ESP32 boards with, root's alone."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.agent.tools.environment import TOOLS
from fleetflash.facts.installation import Errors, provisioning
from fleetflash.host_state import Environment
from fleetflash.link.errors import LinkError
from fleetflash.operations.refusal import refuse
from fleetflash.provision import requirements
from fleetflash.provision.errors import ProvisionError


@operation()
def present(environment: Environment) -> Generator[FunctionCommand, None, None]:
    """
    Have the tool virtualenv as its hashed requirements say. One that runs is not disturbed: it is built beside.

    + environment: its requirements, and their wheels

    **Example:**

    .. code:: python

        tools.present(name="esptool is there", environment=Environment(requirements="esptool.txt", wheels="wheels"))
    """
    path = str(TOOLS)
    try:
        text = requirements.read(Path(environment.requirements))
        flaw = provisioning(host).look("", {}, {path: text}, []).environments[path]
    except ProvisionError as error:
        yield FunctionCommand(refuse, (str(error),), {})
        return
    except LinkError as error:
        flaw = str(error)
    if not flaw:
        host.noop("esptool is there")
        return
    yield FunctionCommand(_build, (environment, text, flaw), {})


def _build(state: Any, host: Any, environment: Environment, text: str, flaw: str) -> bool:
    listed, wheels = Path(environment.requirements), environment.wheels
    request = {"user": "", "path": str(TOOLS), "requirements": text, "services": []}
    try:
        data = requirements.pack(text, listed, Path(wheels)) if wheels else b""
        kept = provisioning(host).environment(request, data)
    except Errors as error:
        return refuse(state, host, str(error))
    logger.info(f"{host.print_prefix}{TOOLS} {flaw}: built{f'; {kept}' if kept else ''}")
    return True
