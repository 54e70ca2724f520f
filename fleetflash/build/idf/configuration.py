"""The effective configuration of a gateway: made by ESP-IDF from the layers, checked line by line, without secrets.

The configuration is made anew each time, outside of the source: a ``sdkconfig`` that somebody has committed would win
over every layer without a word (ESP-IDF guide, "Project Configuration").
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build import kconfig, kconfig_explanation
from fleetflash.build.errors import ConfigurationError, ToolchainError
from fleetflash.build.idf import kconfig_check
from fleetflash.build.idf.idf_py import IdfPy
from fleetflash.build.idf.layers import OWN, Layer, asked
from fleetflash.build.kconfig import Change
from fleetflash.secret import Secret, placeholder, redact

SDKCONFIG = "sdkconfig"


@dataclass(frozen=True)
class Files:
    """Where a build's configuration lies: the list of layers as ESP-IDF takes it, and the sdkconfig to be made."""

    defaults: tuple[Path, ...]
    sdkconfig: Path

    def options(self) -> tuple[str, ...]:
        """Return what ``idf.py`` is told; source: ESP-IDF guide, "Build System", "Project Configuration"."""
        defaults = ";".join(map(str, self.defaults))
        return ("-D", f"SDKCONFIG={self.sdkconfig}", "-D", f"SDKCONFIG_DEFAULTS={defaults}")


def lay_out(layers: Sequence[Layer], secrets: Mapping[str, Mapping[str, Secret]], project: Path, home: Path) -> Files:
    """Write the layers, with their secrets, into ``home``; the project's own ``sdkconfig.defaults`` comes first.

    + secrets: layer's name → symbol → secret
    """
    own = project / OWN
    written = [layer.write(home, secrets[layer.name]) for layer in layers]
    return Files((*([own] if own.is_file() else []), *written), home / SDKCONFIG)


def configure(idf_py: IdfPy, files: Files, layers: Sequence[Layer], secrets: Mapping[str, Mapping[str, Secret]]) -> str:
    """Return the effective configuration without secrets, all that was asked for in it.

    Raises ``ConfigurationError`` that names each line which did not survive with its place in the menu, and
    ``CompileError`` when ESP-IDF itself fails.
    """
    idf_py.run("idf.py", *files.options(), "reconfigure")
    effective = read(files.sdkconfig)
    wanted = asked(layer.revealed(secrets[layer.name]) for layer in layers)
    problems = _problems(idf_py, files.sdkconfig, wanted)
    if problems:
        said = redact("; ".join(problems), idf_py.secrets)
        raise ConfigurationError(f"Kconfig does not accept what was asked for: {said}")
    return without_secrets(effective, idf_py.secrets)


def without_secrets(text: str, secrets: Iterable[Secret]) -> str:
    """Return a configuration with placeholders for secrets: where their symbols stand, and wherever else they are."""
    secrets = list(secrets)
    names = {f"CONFIG_{secret.name}" for secret in secrets}
    lines = []
    for line in text.splitlines():
        symbol, equals, value = line.partition("=")
        if equals and symbol in names and value != '""':
            line = f'{symbol}="{placeholder(symbol.removeprefix("CONFIG_"))}"'
        lines.append(redact(line, secrets))
    return "\n".join(lines) + "\n"


def overridden(sdkconfig: Path, effective: str, secrets: Iterable[Secret]) -> tuple[str, tuple[Change, ...]]:
    """Return what a ``sdkconfig`` of the source says, without secrets, and what of the configuration it would change.

    Both are empty when there is none. Only symbols that it has count: others would get their defaults.
    """
    try:
        text = without_secrets(sdkconfig.read_text(errors="replace"), secrets)
    except FileNotFoundError:
        return "", ()
    try:
        former = kconfig.parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"the source's {sdkconfig.name}: {error}; remove it from the source") from None
    now = kconfig.parse(effective)
    stale = (Change(symbol, value, former[symbol]) for symbol, value in sorted(now.items()) if symbol in former)
    return text, tuple(change for change in stale if change.before != change.after)


def read(sdkconfig: Path) -> str:
    try:
        return sdkconfig.read_text()
    except OSError as error:
        raise ConfigurationError(
            f"idf.py made no sdkconfig ({error.strerror}); does the project's CMakeLists.txt set SDKCONFIG itself?"
        ) from None


def _problems(idf_py: IdfPy, sdkconfig: Path, wanted: Mapping[str, str]) -> list[str]:
    """Ask the Kconfig library of ESP-IDF itself; values go through pipes, not through files or arguments."""
    root, config_env = idf_py.idf.path / "Kconfig", idf_py.project / "build" / "config.env"
    script, explanation = str(kconfig_check.__file__), str(kconfig_explanation.__file__)
    answer = subprocess.run(
        ["python", script, str(root), str(config_env), str(sdkconfig), explanation],
        cwd=idf_py.project,
        env=idf_py.environment(),
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
    )
    if answer.returncode == kconfig_check.NO_LIBRARY:
        raise ToolchainError("ESP-IDF's Python has no esp-idf-kconfig; run its install.sh again")
    if answer.returncode:
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        said = redact(lines[-1] if lines else "no output", idf_py.secrets)
        raise ConfigurationError(f"the project's Kconfig can't be read: {said}")
    found = json.loads(answer.stdout)
    return [
        f"CONFIG_{symbol}: asked for {wanted[symbol]}, became {_shown(told['became'])} ({told['reason']})"
        for symbol, told in found.items()
    ]


def _shown(value: str | None) -> str:
    return "nothing" if value is None else value
