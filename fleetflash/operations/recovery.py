"""What shall be: nothing on a host is left unfinished."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.facts import build_hosts, installation
from fleetflash.facts.decision import transport
from fleetflash.facts.recovery import leftovers
from fleetflash.link.errors import LinkError
from fleetflash.link.request import ask
from fleetflash.operations.refusal import refuse
from fleetflash.operations.turn import turn
from fleetflash.report.progress import say


@operation()
def settled() -> Generator[FunctionCommand, None, None]:
    """
    Bring to rest what a transaction that died has left on a host, and say what was found.

    A transaction that was committed is finished, any other one taken back; Klipper runs again if it did; guards and
    half-written files are gone. A transaction that runs is left alone, as is a printer that prints.

    **Example:**

    .. code:: python

        recovery.settled(name="Nothing is left unfinished")
    """
    try:
        found = leftovers(host)
    except LinkError as error:
        yield FunctionCommand(refuse, (str(error),), {})
        return
    if not found:
        host.noop("nothing is left unfinished")
        return
    if not host.state.is_executing:
        for left in found:
            say(host, left)
    yield FunctionCommand(settle, (), {})


def settle(state: Any, host: Any) -> bool:
    """Have the host settle; false, which fails it, when something needs a person or another run."""
    with turn(host):
        try:
            told = ask(transport(host), host.name, {"type": "recover"}, "recovered", seconds=None)["found"]
        except LinkError as error:
            return refuse(state, host, str(error))
    for item in told:
        say(host, f"{item['found']}: {item['done']}", logger.info if item["well"] else logger.error)
    return all(item["well"] for item in told)


@operation()
def swept(here: bool = False) -> Generator[FunctionCommand, None, None]:
    """
    Remove what builds that died have left on a builder: half-fetched toolchains, directories of their own.

    + here: in this computer's build cache, instead of on the host

    What a build that runs uses is locked, and stays. Each thing is told in one line.

    **Example:**

    .. code:: python

        recovery.swept(name="Nothing is left of builds that died")
    """
    yield from _swept(partial(build_hosts.leftovers, here=here))


@operation()
def provisioning_swept() -> Generator[FunctionCommand, None, None]:
    """
    Remove what changes of the host itself have left that died: half-made virtualenvs and source trees, uploads.

    What a change that is made now uses stays. Needs sudo where the data names ``klipper`` or ``flash_tools``, and asks
    nothing elsewhere.

    **Example:**

    .. code:: python

        recovery.provisioning_swept(name="Nothing is left of changes that died")
    """
    yield from _swept(installation.leftovers)


def _swept(leftovers: Callable[..., list[str]]) -> Generator[FunctionCommand, None, None]:
    try:
        found = leftovers(host, remove=False)
    except installation.Errors as error:
        yield FunctionCommand(refuse, (str(error),), {})
        return
    if not found:
        host.noop("nothing is left")
        return
    if not host.state.is_executing:
        for left in found:
            say(host, left)
    yield FunctionCommand(sweep, (leftovers,), {})


def sweep(state: Any, host: Any, leftovers: Callable[..., list[str]]) -> bool:
    """Remove what is left, and say what that was."""
    try:
        removed = leftovers(host, remove=True)
    except installation.Errors as error:
        return refuse(state, host, str(error))
    for left in removed:
        say(host, f"{left}: removed")
    return True
