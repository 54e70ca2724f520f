"""The secrets of one gateway type, read once: for its layers, and for files that its build needs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import ConfigurationError
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.idf.layers import Layer
from fleetflash.secret import Secret, SecretError


@dataclass(frozen=True)
class Vault:
    """``layers``: layer's name → symbol → secret. ``files``: path in the project → secret content."""

    layers: Mapping[str, Mapping[str, Secret]]
    files: Mapping[str, Secret]

    @classmethod
    def open(cls, gateway: GatewayType, layers: Sequence[Layer]) -> "Vault":
        """Ask every source; raises ``ConfigurationError`` that names the secret and its source."""
        try:
            values = {layer.name: layer.read_secrets() for layer in layers}
            files = {path: source.read_text(path) for path, source in gateway.secret_files.items()}
        except SecretError as error:
            raise ConfigurationError(str(error)) from None
        return cls(values, files)

    def all(self) -> list[Secret]:
        return [secret for values in self.layers.values() for secret in values.values()] + list(self.files.values())

    def named(self) -> dict[str, Secret]:
        """Return every secret under a name of its own."""
        of_layers = {
            f"{layer}:{name}": secret for layer, values in self.layers.items() for name, secret in values.items()
        }
        return of_layers | {f"file:{path}": secret for path, secret in self.files.items()}

    def write_files(self, project: Path) -> None:
        """Write the secret files into a project, for their owner alone; raises ``ConfigurationError``."""
        for path, secret in self.files.items():
            target = project / path
            if os.path.lexists(target):
                raise ConfigurationError(f"secret file {path}: the source has a file there; remove it from the source")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.resolve().is_relative_to(project.resolve()):
                raise ConfigurationError(f"secret file {path}: a link of the source leads outside; name another path")
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secret.reveal())
