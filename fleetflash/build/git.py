"""Running git: with the user's settings where it talks to servers, with none where it makes what a build contains."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleetflash.build.errors import SourceError

#: Digits of a commit in versions. Left to itself, git takes as many as the size of the repository suggests.
ABBREVIATION = 8


def build_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` with git settings that are the same everywhere, for what ends up in a build.

    Source: git-config(1), GIT_CONFIG_COUNT, GIT_CONFIG_GLOBAL, GIT_CONFIG_NOSYSTEM.
    """
    settings = {
        "core.abbrev": str(ABBREVIATION),
        "core.hooksPath": os.devnull,
        "safe.directory": "*",
        "user.name": "fleetflash",
        "user.email": "fleetflash@localhost",
    }
    environment = {name: value for name, value in base.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environment


def git(directory: Path, *arguments: str, user: bool = False, input: bytes = b"", **environment: str) -> str:
    """Run git in a directory and return what it printed, without blanks around it.

    + user: with the user's settings and credentials, for servers; else with those of ``build_environment``

    Raises ``SourceError`` with git's own last line when it fails.
    """
    base = _users_environment() if user else build_environment(os.environ)
    # Nothing may wait for ever: not for a password without a terminal, not for a server that went silent (30 s).
    base |= {"GIT_TERMINAL_PROMPT": "0", "GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": "30"}
    base |= {"LC_ALL": "C", **environment}
    try:
        answer = subprocess.run(["git", "-C", str(directory), *arguments], input=input, capture_output=True, env=base)
    except FileNotFoundError:
        raise SourceError("git is not installed: apt-get install git") from None
    if answer.returncode:
        raise SourceError(f"git {arguments[0]}: {_reason(answer.stderr)}")
    return answer.stdout.decode(errors="replace").strip()


def _users_environment() -> dict[str, str]:
    """Return the user's environment without what points git to another repository, as in a hook (git-rev-parse(1))."""
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
    return {name: value for name, value in os.environ.items() if name not in elsewhere}


def _reason(error: bytes) -> str:
    lines = [line.strip() for line in error.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:] or ["failed"]
    return " ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in told)
