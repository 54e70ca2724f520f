"""The layers of ``sdkconfig.defaults``: rendered from templates, later ones over earlier ones, without any secret.

Source: ESP-IDF guide, "Project Configuration" (``SDKCONFIG_DEFAULTS``, a list separated by ``;``, of which later files
win) and "Build System", "Custom sdkconfig defaults". Where a secret belongs, a placeholder stands until the very build.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build import kconfig
from fleetflash.build.errors import ConfigurationError
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.idf.settings import Settings
from fleetflash.build.templates import environment, told
from fleetflash.secret import NAME, Secret, placeholder
from fleetflash.secret_source import SecretSource

#: The project's own, which it may have; ESP-IDF reads it first.
OWN = "sdkconfig.defaults"
BASE = "sdkconfig.defaults.fleetflash"
SITE = "sdkconfig.defaults.{}"
_SECRET_NAME = re.compile(NAME, re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """``text``: its lines, with placeholders; ``secrets``: symbol → where its value comes from."""

    name: str
    text: str
    secrets: Mapping[str, SecretSource]

    def read_secrets(self) -> dict[str, Secret]:
        """Return symbol → secret; raises ``SecretError``."""
        return {symbol: source.read(symbol) for symbol, source in self.secrets.items()}

    def write(self, directory: Path, secrets: Mapping[str, Secret]) -> Path:
        """Write the layer with its secrets, for its owner alone, and return where."""
        path = directory / self.name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.revealed(secrets))
        return path

    def revealed(self, secrets: Mapping[str, Secret]) -> str:
        """Return the lines with the secrets in place of their placeholders."""
        lines = []
        for line in self.text.splitlines():
            symbol = line.removeprefix("CONFIG_").partition("=")[0]
            if symbol in self.secrets and line == _placeholder_line(symbol):
                line = f"CONFIG_{symbol}={quoted(secrets[symbol].reveal())}"
            lines.append(line)
        return "\n".join(lines) + "\n"


def render_layers(gateway: GatewayType, templates: Path) -> list[Layer]:
    """Return the layers of a gateway, its own and that of its site; raises ``ConfigurationError``."""
    layers = [_render(gateway, gateway.settings, "", BASE, templates)]
    if gateway.site:
        layers.append(_render(gateway, gateway.site_settings, gateway.site, SITE.format(gateway.site), templates))
    return layers


def asked(layers: Iterable[str]) -> dict[str, str]:
    """Return symbol → value of what the layers come to, the last one's; raises ``ConfigurationError``."""
    found: dict[str, str] = {}
    for text in layers:
        found |= kconfig.parse(text)
    return found


def quoted(text: str) -> str:
    """Return a text as Kconfig writes it; source: kconfiglib, ``escape``."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _render(gateway: GatewayType, settings: Settings, site: str, name: str, templates: Path) -> Layer:
    secrets: dict[str, SecretSource] = {}

    def line(symbol: str, value: object) -> str:
        if symbol.startswith("CONFIG_"):
            raise ConfigurationError(f"{symbol}: write it without CONFIG_, as in Kconfig")
        if not isinstance(value, SecretSource):
            return kconfig.write_line(symbol, value)
        kconfig.write_line(symbol, True)
        if secrets.setdefault(symbol, value) != value:
            raise ConfigurationError(f"CONFIG_{symbol} is asked for twice, from {secrets[symbol]} and from {value}")
        return _placeholder_line(symbol)

    with told(templates, gateway.template):
        try:
            template = environment(templates, line).get_template(gateway.template)
            text = template.render(gateway=gateway, settings=settings, site=site)
            text = re.sub(r"\n{2,}", "\n", text)
            _refuse_open_secrets(kconfig.parse(text))
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    return Layer(name, text, secrets)


def _refuse_open_secrets(lines: Mapping[str, str]) -> None:
    """Raise ``ConfigurationError`` for a text where only a secret can belong; what it is stays unsaid."""
    for symbol, value in lines.items():
        is_open = value not in ('""', quoted(placeholder(symbol)))
        if value.startswith('"') and is_open and _SECRET_NAME.search(symbol):
            raise ConfigurationError(
                f"CONFIG_{symbol} is a secret by its name and stands there for everybody to read; give its source "
                "(env, file or command), and change it if it was shown to anybody"
            )


def _placeholder_line(symbol: str) -> str:
    return f"CONFIG_{symbol}={quoted(placeholder(symbol))}"
