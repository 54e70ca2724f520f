"""The configuration of a build: rendered from a template, completed by the source's own Kconfig, and checked.

Kconfig drops silently what it does not know or what another symbol forbids. Dropping where the application begins, for
example, is how bootloaders get overwritten; so every line that was asked for must come out as it went in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from fleetflash.build import kconfig, kconfig_explanation
from fleetflash.build.board_type import BoardType
from fleetflash.build.errors import ConfigurationError
from fleetflash.build.make import Make
from fleetflash.build.templates import environment, told

CONFIG = ".config"


def render(board_type: BoardType, templates: Path) -> str:
    """Return the lines that are asked for: the board type's template, with ``board_type`` and ``kconfig`` in it.

    The filter ``{{ symbol | kconfig(value) }}`` writes one line. Raises ``ConfigurationError``.
    """
    with told(templates, board_type.template):
        try:
            template = environment(templates, kconfig.write_line).get_template(board_type.template)
            text = template.render(board_type=board_type, kconfig=board_type.kconfig)
            kconfig.parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"template {board_type.template}: {error}") from None
    return text


def complete(make: Make, asked: str) -> str:
    """Return the whole configuration that ``make olddefconfig`` makes of the lines that are asked for.

    Raises ``ConfigurationError`` that names each line which did not survive, and why as far as Kconfig can tell, and
    ``CompileError`` when make itself fails.
    """
    path = make.tree / CONFIG
    path.write_text(asked)
    make.run("olddefconfig")
    effective = path.read_text()
    lost = kconfig.lost(kconfig.parse(asked), kconfig.parse(effective), kconfig.declared_symbols(make.tree))
    if lost:
        reasons = _reasons(make, asked, [change.symbol for change in lost])
        problems = []
        for change in lost:
            reason = f" ({reasons[change.symbol]})" if change.symbol in reasons else ""
            became = "nothing" if change.after is None else change.after
            problems.append(f"CONFIG_{change.symbol}: asked for {change.before}, became {became}{reason}")
        raise ConfigurationError(f"Kconfig does not accept what was asked for: {'; '.join(problems)}")
    return effective


def _reasons(make: Make, asked: str, symbols: list[str]) -> dict[str, str]:
    """Ask kconfiglib, the tree's own if it has one; what it can't say is left out."""
    path = make.tree / CONFIG
    path.write_text(asked)
    script = str(kconfig_explanation.__file__)
    answer = subprocess.run(
        [sys.executable, "-P", script, "src/Kconfig", str(path), *symbols],
        cwd=make.tree,
        env={**make.environment(), "PYTHONPATH": os.pathsep.join([str(make.tree / "lib/kconfiglib")])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        return {}
    reasons: dict[str, str] = json.loads(answer.stdout)
    return reasons
