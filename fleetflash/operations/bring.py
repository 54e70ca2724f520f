"""How an operation does nothing where one look at the host has shown that there is nothing to do."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from pyinfra import host

from fleetflash.facts import installation
from fleetflash.provision.expected import Expected


def bring(expected: Sequence[Expected], commands: Callable[[], Iterable[Any]], done: str) -> Generator[Any, None, None]:
    """Yield the commands that bring the host to what is expected; none where that was confirmed.

    + commands: may ask facts of its own, and may be empty, too
    + done: said when there is nothing to do
    """
    found = [] if installation.confirmed(host, *expected) else list(commands())
    if not found:
        host.noop(done)
        return
    if host.state.is_executing:
        installation.forget(host)
    yield from found
