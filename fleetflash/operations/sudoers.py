"""What shall be: the rule of sudo that flashing needs."""

import io
import shlex
from collections.abc import Generator
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation
from pyinfra.facts.files import FileContents
from pyinfra.operations import files

from fleetflash.operations.bring import bring
from fleetflash.provision import expected

PLACE = "/etc/sudoers.d/fleetflash"
#: As sudo finds python3 on its own path.
PYTHON = "/usr/bin/python3"


@operation()
def agent_rule(user: str) -> Generator[Any, None, None]:
    """
    Let a login run the agent as root without a password. Whoever may do that is root there.

    + user: the login

    ``visudo -c`` must accept the rule before it is put in place; afterwards ``sudo -n -l`` must grant it.
    """
    yield from bring([expected_rule(user)], lambda: _put(user), "the rule is there")


def expected_rule(user: str) -> expected.Expected:
    return expected.file(PLACE, _rule(user), "root", "440")


def _rule(user: str) -> str:
    return f"# Written by fleetflash. Whoever may run Python as root is root.\n{user} ALL=(root) NOPASSWD: {PYTHON}\n"


def _put(user: str) -> Generator[Any, None, None]:
    rule = _rule(user)
    if host.get_fact(FileContents, path=PLACE) == rule.splitlines():
        return
    draft = f"{PLACE}.fleetflash-new"  # sudo reads no file with a dot in its name
    yield from files.put._inner(src=io.StringIO(rule), dest=draft, mode="440", user="root", group="root")
    yield f"visudo -cqf {draft} && mv {draft} {PLACE} || {{ rm -f {draft}; false; }}"
    yield FunctionCommand(_probe, (user,), {})


def _probe(state: Any, host: Any, user: str) -> bool:
    asked = f"su {shlex.quote(user)} -s /bin/sh -c 'sudo -n -l python3'"
    success, output = host.run_shell_command(asked, _sudo=user != "root")
    if not success:
        logger.error(f"{host.print_prefix}sudo does not grant {PYTHON} to {user} ({output.stderr}); see sudo -l")
    return bool(success)
