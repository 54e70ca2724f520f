"""What shall be: Debian's packages, and the user that Klipper runs as."""

from collections.abc import Generator, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt, server

from fleetflash.operations.bring import bring
from fleetflash.provision import expected

#: Another apt, such as the daily one, is waited for so long, in seconds.
LOCK_SECONDS = 300


@operation()
def packages(packages: Sequence[str]) -> Generator[Any, None, None]:
    """
    Install packages that are missing; only then are apt's lists asked for anew.

    + packages: Debian's names
    """
    yield from bring([expected.packages(packages)], lambda: _install(packages), "all packages are installed")


def _install(packages: Sequence[str]) -> Generator[Any, None, None]:
    there = host.get_fact(DebPackages)
    missing = [package for package in packages if package.split(":")[0] not in there]
    if missing:
        wait = f"-o DPkg::Lock::Timeout={LOCK_SECONDS}"
        yield from apt.packages._inner(packages=missing, update=True, no_recommends=True, extra_install_args=wait)


@operation()
def user(user: str, home: str, groups: Sequence[str]) -> Generator[Any, None, None]:
    """
    Have a user with groups, such as dialout, without taking others away.

    + user: its name
    + home: its home directory
    + groups: that it shall be in, among others
    """
    done = f"user {user} is there, with its groups"
    yield from bring([expected.account(user, home, groups)], lambda: _make_user(user, home, groups), done)


def _make_user(user: str, home: str, groups: Sequence[str]) -> Generator[Any, None, None]:
    commands = list(server.user._inner(user=user, home=home, groups=list(groups), append=True, create_home=True))
    if commands:
        yield from commands
        yield FunctionCommand(_log_in_again, (), {})


def _log_in_again(state: Any, host: Any) -> bool:
    """A login keeps the groups that it began with."""
    host.disconnect()
    host.connect(raise_exceptions=True)
    return True
