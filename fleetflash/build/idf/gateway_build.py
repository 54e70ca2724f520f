"""One build of a gateway's firmware, and what decides it.

Beside its ``build.json`` lie the files for flash with their ``flasher_args.json``, ``app.elf`` and ``app.map``, the
effective ``sdkconfig`` and the layers without secrets, ``size.txt``, ``build.log``, the reports of the host tests, and,
where the source had a ``sdkconfig`` of its own, that as ``sdkconfig.former``.
"""

import hashlib
import json

from pydantic import AwareDatetime, BaseModel, ConfigDict

from fleetflash.build.builds import Described
from fleetflash.firmware.artifact import Sha256

ELF, MAP, SIZE, FORMER, TEST_REPORT = "app.elf", "app.map", "size.txt", "sdkconfig.former", "test-{}"


class GatewayKey(BaseModel):
    """Everything that decides what a build makes; equal keys are never built twice.

    ``configuration``: sha256 of the effective one, secrets left out; ``secrets``: their keyed hash. ``tests``: the
    command of the gate, since a build that passed another one is not the same.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    commit: str
    overlay: str
    project: str
    target: str
    configuration: Sha256
    secrets: str
    esp_idf: Sha256
    tests: str

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class GatewayBuild(Described):
    """``version``: what the application says of itself. ``app_bytes`` of ``app_room``: how full its partition is."""

    key: GatewayKey
    repository: str
    version: str
    idf_version: str
    elf_sha256: Sha256
    app_bytes: int
    app_room: int
    seconds: float
    created: AwareDatetime

    @property
    def id(self) -> str:
        return self.key.id
