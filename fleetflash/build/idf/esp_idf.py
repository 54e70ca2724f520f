"""ESP-IDF as desired state: a pinned version in a place of its own, checked and never installed by us."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetflash.build.errors import BoardTypeError
from fleetflash.build.toolchain import Name, first_problem

AbsolutePath = Annotated[str, Field(pattern=r"^(/|~/)[^\n:;]+$")]


class EspIdf(BaseModel):
    """``version``: as ``idf.py --version`` says it. ``path``: its ``IDF_PATH``; ``tools_path``: ``IDF_TOOLS_PATH``."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Name
    version: Annotated[str, Field(pattern=r"^v5\.\d+(\.\d+)?(-[A-Za-z0-9.-]+)?$")]
    path: AbsolutePath
    tools_path: AbsolutePath

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
