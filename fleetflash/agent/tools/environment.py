"""The virtualenv with the tools that the agent runs but is not made of.

On a host it lies beside the agent's other files, root-owned since root runs it. Elsewhere, where fleetflash itself is
installed with its extra ``esp``, its own interpreter will do.
"""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from fleetflash.agent.schema import STATE

TOOLS = Path(STATE) / "tools"
#: The versions of esptool whose library the worker uses.
OLDEST, TOO_NEW = (5, 6), (6, 0)
WANTED = "esptool>=5.6,<6"


class ToolError(Exception):
    """There is no such tool here, or not one that will do; the message says how to get it."""


@dataclass(frozen=True)
class Environment:
    """``python`` is the interpreter of a virtualenv that has esptool ``version``."""

    python: str
    version: str


def find(tools: Path = TOOLS) -> Environment:
    """Return where esptool can be run from; raises ``ToolError``."""
    found = _virtualenv(tools) or _own()
    how = f"python3 -m venv {tools} && {tools}/bin/pip install '{WANTED}'"
    if found is None:
        raise ToolError(f"no esptool in {tools}; install it as root: {how}")
    if not is_known(found.version):
        raise ToolError(f"{found.python} has esptool {found.version}, needed is {WANTED}; install that: {how}")
    return found


def is_known(version: str) -> bool:
    """Whether this is a version of esptool whose library the worker uses."""
    return OLDEST <= _numbers(version) < TOO_NEW


def _virtualenv(tools: Path) -> Optional[Environment]:
    python = tools / "bin/python"
    packages = sorted(tools.glob("lib/python3*/site-packages/esptool-*.dist-info"))
    if not python.exists() or not packages:
        return None
    _refuse_foreign(tools)
    found = re.fullmatch(r"esptool-(.+)\.dist-info", packages[-1].name)
    return Environment(str(python), found[1] if found else "")


def _refuse_foreign(tools: Path) -> None:
    """What root runs must be root's alone."""
    if os.geteuid() != 0:
        return
    for path in (tools, tools / "bin"):
        facts = path.stat()
        if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ToolError(
                f"{path} can be changed by others than root, who would run it; as root: chown -R root: "
                f"{tools} && chmod -R go-w {tools}"
            )


def _own() -> Optional[Environment]:
    # Half a snapshot's time, and no host without ESP32 boards needs it.
    import importlib.metadata

    try:
        return Environment(sys.executable, importlib.metadata.version("esptool"))
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
