"""What a gateway type comes to before anything is compiled, remembered, since ESP-IDF takes its time to say it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import ConfigurationError
from fleetflash.build.idf.bench import Inputs, bench
from fleetflash.build.idf.configuration import SDKCONFIG, configure, overridden
from fleetflash.build.idf.environment import Idf
from fleetflash.build.idf.gateway_build import GatewayKey
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.idf.keyed_hash import keyed_hash
from fleetflash.build.idf.layers import render_layers
from fleetflash.build.idf.vault import Vault
from fleetflash.build.kconfig import Change
from fleetflash.build.lock import held
from fleetflash.build.overlay import Overlay
from fleetflash.build.prepared import configuration_hash
from fleetflash.build.source import Sources
from fleetflash.firmware.durable import sync_directory, write_read_only


@dataclass(frozen=True)
class Prepared:
    """``configuration``: the effective one; ``former``: the source's own sdkconfig, and ``stale`` what it would change.

    No text of these holds a secret.
    """

    inputs: Inputs
    configuration: str
    former: str
    stale: tuple[Change, ...]
    key: GatewayKey


class Preparations:
    """Effective configurations below a build cache, by what they follow from. Raises ``BuildError``."""

    def __init__(self, cache: Path, sources: Sources) -> None:
        self.cache, self.sources, self.components = cache, sources, cache / "idf-components"
        self.directory = cache / "gateway-configurations"

    def prepare(
        self, gateway: GatewayType, root: Path, idf: Idf, report: Callable[[str], None] = lambda text: None
    ) -> Prepared:
        """Resolve the source, read overlay and secrets, and let ESP-IDF make the configuration of a gateway type.

        + root: where ``templates/`` and the overlay are
        """
        layers = tuple(render_layers(gateway, root / "templates"))
        vault = Vault.open(gateway, layers)
        overlay = Overlay.read(root / gateway.overlay) if gateway.overlay else Overlay("")
        revision = self.sources.resolve(gateway.repository, gateway.ref, report)
        secrets = keyed_hash(vault.named(), self.cache / "secrets.key")
        inputs = Inputs(gateway, idf, revision, overlay, layers, vault)
        parts = [revision.commit, overlay.hash, gateway.project, gateway.target, idf.id, secrets]
        parts += [f"{layer.name}\n{layer.text}" for layer in layers]
        id = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        configuration, former, stale = self._remembered(id, inputs, report)
        key = GatewayKey(
            commit=revision.commit,
            overlay=overlay.hash,
            project=gateway.project,
            target=gateway.target,
            configuration=configuration_hash(configuration),
            secrets=secrets,
            esp_idf=idf.id,
            tests=json.dumps(gateway.tests.model_dump() if gateway.tests else None),
        )
        return Prepared(inputs, configuration, former, stale, key)

    def _remembered(
        self, id: str, inputs: Inputs, report: Callable[[str], None]
    ) -> tuple[str, str, tuple[Change, ...]]:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{id}.json"
        with held(self.directory / f".{id}.lock"):
            found = _recall(path)
            if found is not None:
                return found
            report(f"{inputs.gateway.name}: asking ESP-IDF {inputs.idf.version} for its configuration")
            log = self.directory / f"{id}.log"
            log.unlink(missing_ok=True)
            with bench(inputs, self.sources, self.components, log) as there:
                configuration = configure(there.idf_py, there.files, inputs.layers, inputs.vault.layers)
                former, stale = overridden(there.idf_py.project / SDKCONFIG, configuration, inputs.vault.all())
            _remember(path, configuration, former, stale)
            log.unlink(missing_ok=True)
            return configuration, former, stale


def check_same(prepared: Prepared, configuration: str) -> None:
    """Raise ``ConfigurationError`` when a build was configured to something else than was prepared."""
    if configuration_hash(configuration) != prepared.key.configuration:
        raise ConfigurationError("the configuration came out differently the second time; does the project change it?")


def _recall(path: Path) -> tuple[str, str, tuple[Change, ...]] | None:
    """Return configuration, former sdkconfig and what is stale; ``None`` when it is not there, or damaged."""
    try:
        found = json.loads(path.read_text())
        stale = tuple(Change(*change) for change in found["stale"])
        return str(found["config"]), str(found["former"]), stale
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, configuration: str, former: str, stale: tuple[Change, ...]) -> None:
    changes = [[change.symbol, change.before, change.after] for change in stale]
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    write_read_only(temporary, json.dumps({"config": configuration, "former": former, "stale": changes}).encode())
    temporary.rename(path)
    sync_directory(path.parent)
