"""Debian packages that must be installed in a wanted version."""

import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase

from fleetflash.build.errors import ToolchainError

_FORMAT = "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"


def installed(names: list[str]) -> dict[str, tuple[str, str]]:
    """Return name → (version, architecture) of those packages that are installed; source: dpkg-query(1)."""
    try:
        answer = subprocess.run(
            ["dpkg-query", "--show", f"--showformat={_FORMAT}", "--", *names],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise ToolchainError("dpkg-query is not here, so this is no Debian; pin an archive instead") from None
    found = {}
    for line in answer.stdout.splitlines():
        name, version, architecture, status = line.split("\t")
        if status == "installed":
            found[name] = (version, architecture)
    return found


def check(wanted: Mapping[str, str]) -> dict[str, str]:
    """``judge`` what is installed on this computer."""
    return judge(wanted, installed(sorted(wanted)))


def judge(wanted: Mapping[str, str], there: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return name → ``version architecture`` of packages; ``ToolchainError`` says which ones to install.

    + wanted: name → version as Debian writes it; a ``*`` at its end stands for any rest
    + there: name → (version, architecture), as ``installed`` says it
    """
    problems, command = [], []
    for name, version in sorted(wanted.items()):
        found = there.get(name, ("", ""))[0]
        if found and fnmatchcase(found, version):
            continue
        problems.append(f"{name} is {found or 'not installed'}, expected {version}")
        command.append(f"'{name}={version}'" if version != "*" else name)
    if problems:
        raise ToolchainError(f"{'; '.join(problems)}: apt-get install {' '.join(command)}")
    return {name: " ".join(there[name]) for name in sorted(wanted)}
