"""ESP-IDF as desired state: a pinned version, as an archive for the cache, or where somebody has installed it."""

import platform
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleetflash.build.errors import BoardTypeError
from fleetflash.build.toolchain import Archive, InsideArchive, Name, Toolchain, first_problem

AbsolutePath = Annotated[str, Field(pattern=r"^(/|~/)[^\n:;]+$")]


class EspIdf(BaseModel):
    """``version``: as ``idf.py --version`` says it.

    ``archive``: of its source with submodules, which holds it in ``directory`` (by default as Espressif's release
    archives do). Or else ``path``: its ``IDF_PATH``, and ``tools_path``: its ``IDF_TOOLS_PATH``, which somebody has
    installed.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Name
    version: Annotated[str, Field(pattern=r"^v5\.\d+(\.\d+)?(-[A-Za-z0-9.-]+)?$")]
    path: AbsolutePath = ""
    tools_path: AbsolutePath = ""
    archive: Archive | None = None
    directory: InsideArchive = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "EspIdf":
        if self.archive is not None and (self.path or self.tools_path):
            raise ValueError("an archive is installed into the cache; leave path and tools_path out")
        if self.archive is None and not (self.path and self.tools_path):
            raise ValueError("expected an archive, or path and tools_path of one that is installed")
        if self.archive is None and self.directory:
            raise ValueError("directory is for an archive; leave it out")
        return self

    @property
    def inside(self) -> str:
        """Where in the archive it is."""
        return self.directory or f"esp-idf-{self.version}"

    def toolchain(self) -> Toolchain:
        """Return the archive as the cache takes it: the same for every architecture."""
        assert self.archive is not None
        return Toolchain(name="esp-idf", version=self.version, archives={platform.machine(): self.archive}, bin=".")

    def __str__(self) -> str:
        return f"ESP-IDF {self.version}"


def read_esp_idf(described: object) -> dict[str, EspIdf]:
    """Return name → ESP-IDF of ``esp_idf`` in group data; raises ``BoardTypeError`` that names the field."""
    if not isinstance(described, Mapping):
        raise BoardTypeError(f"esp_idf: expected a dictionary of versions of ESP-IDF, found {described!r:.80}")
    found = {}
    for name, fields in described.items():
        if not isinstance(fields, Mapping):
            raise BoardTypeError(
                f"esp_idf.{name}: expected a dictionary, found {fields!r:.80}; see docs/gateway-builds.md"
            )
        try:
            found[str(name)] = EspIdf.model_validate({**fields, "name": str(name)})
        except ValidationError as error:
            problem = first_problem(error, "an ESP-IDF", "docs/gateway-builds.md")
            raise BoardTypeError(f"esp_idf.{name}: {problem}") from None
    return found
