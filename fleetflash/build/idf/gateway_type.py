"""A gateway's firmware as desired state: from which source, for which site, with which configuration and ESP-IDF."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetflash.build.errors import BoardTypeError
from fleetflash.build.idf.esp_idf import EspIdf
from fleetflash.build.idf.settings import Settings
from fleetflash.build.toolchain import Name
from fleetflash.firmware.artifact import Word
from fleetflash.firmware.chips import ESP, Chip, chip
from fleetflash.firmware.errors import UnknownChipError
from fleetflash.secret_source import SecretSource

TEMPLATE = "sdkconfig.defaults.j2"
#: What ``idf.py --list-targets --preview`` says: ``sdkconfig.defaults.<target>`` has a meaning of its own.
TARGETS = (
    "esp32", "esp32s2", "esp32s3", "esp32s31", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32c61", "esp32h2",
    "esp32h21", "esp32h4", "esp32p4", "linux",
)  # fmt: skip
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class HostTests(BaseModel):
    """Tests that run on the builder and must pass. ``command``: its words; ``reports``: a glob in the project."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    command: Annotated[tuple[str, ...], Field(min_length=1)] = ("idf.py", "test")
    reports: Annotated[str, Field(min_length=1)] = "build/*/test.log"

    @field_validator("command", mode="before")
    @classmethod
    def _as_tuple(cls, command: Any) -> Any:
        return tuple(command) if isinstance(command, list) else command


class GatewayType(BaseModel):
    """The firmware of one gateway, or of several that are alike.

    ``firmware``: the artifact's name, which gateways are pinned to. ``repository``, ``ref``, ``overlay``: as for a
    board type. ``project``: the directory of ESP-IDF's project in the repository. ``target``: the chip. ``esp_idf``:
    its name in ``esp_idf``. ``settings``: what becomes ``sdkconfig.defaults``; ``site_settings``: what is different at
    ``site``. ``template``: the file in ``templates/`` that makes lines of them. ``secret_files``: path in the project →
    source, such as a key that images are signed with. ``web``: whether Node.js is needed. ``tests``: the gate, if any.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Name
    firmware: Word
    repository: Annotated[str, Field(min_length=1)]
    ref: Annotated[str, Field(min_length=1)]
    target: str
    esp_idf: str
    project: str = "."
    overlay: str = ""
    template: FileName = TEMPLATE
    settings: Settings = Settings()
    site: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]*)?$")] = ""
    site_settings: Settings = Settings()
    secret_files: dict[str, SecretSource] = {}
    web: bool = False
    tests: HostTests | None = None

    @field_validator("target")
    @classmethod
    def _known_target(cls, name: str) -> str:
        try:
            found = chip(name)
        except UnknownChipError as error:
            raise ValueError(str(error)) from None
        if found.family != ESP:
            raise ValueError("expected a chip that ESP-IDF builds for")
        return found.name

    @field_validator("site")
    @classmethod
    def _no_target(cls, site: str) -> str:
        if site in (*TARGETS, "fleetflash"):
            raise ValueError(f"sdkconfig.defaults.{site} has a meaning of its own; name the site otherwise")
        return site

    @field_validator("project")
    @classmethod
    def _project_inside(cls, directory: str) -> str:
        return _inside(directory)

    @field_validator("secret_files")
    @classmethod
    def _files_inside(cls, files: dict[str, SecretSource]) -> dict[str, SecretSource]:
        return {_inside(path): source for path, source in files.items()}

    @model_validator(mode="after")
    def _site_is_named(self) -> "GatewayType":
        if self.site_settings != Settings() and not self.site:
            raise ValueError("site_settings without a site; name it")
        return self

    @property
    def chip(self) -> Chip:
        return chip(self.target)


def read_gateway_types(described: object, toolchains: Mapping[str, EspIdf]) -> dict[str, GatewayType]:
    """Return name → gateway type of ``gateway_types`` in group data; raises ``BoardTypeError`` that names the field."""
    if not isinstance(described, Mapping):
        raise BoardTypeError(f"gateway_types: expected a dictionary of gateway types, found {described!r:.80}")
    return {str(name): _read(str(name), fields, toolchains) for name, fields in described.items()}


def _read(name: str, fields: Any, toolchains: Mapping[str, EspIdf]) -> GatewayType:
    where = f"gateway_types.{name}"
    if not isinstance(fields, Mapping):
        raise BoardTypeError(f"{where}: expected a dictionary, found {fields!r:.80}; see docs/gateway-builds.md")
    try:
        found = GatewayType.model_validate({**fields, "name": name})
    except ValidationError as error:
        raise BoardTypeError(f"{where}: {_first_problem(error)}") from None
    if found.esp_idf not in toolchains:
        there = ", ".join(sorted(toolchains)) or "none"
        raise BoardTypeError(f"{where}: esp_idf {found.esp_idf!r} is not described, there is {there}")
    return found


def _first_problem(error: ValidationError) -> str:
    """Return what is wrong with one field, in one line; text is never shown, since it may be a password."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        said = " is missing"
    elif problem["type"] == "extra_forbidden":
        said = " is no field of a gateway type"
    else:
        shown = isinstance(problem["input"], int | float)
        found = f", found {problem['input']!r:.80}" if shown else f", found {type(problem['input']).__name__}"
        said = f": {problem['msg'].removeprefix('Value error, ')}{found}" if where else problem["msg"]
    return f"{where}{said}; see docs/gateway-builds.md"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError("expected a path inside of the repository")
    return name
