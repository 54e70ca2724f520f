"""A board type as desired state: from which source, with which configuration and tools its firmware is built."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fleetflash.build.errors import BoardTypeError, ConfigurationError
from fleetflash.build.kconfig import write_line
from fleetflash.build.toolchain import Name, Toolchain, first_problem
from fleetflash.firmware.artifact import Word
from fleetflash.firmware.chips import Chip, chip
from fleetflash.firmware.errors import UnknownChipError

TEMPLATE = "klipper.config.j2"


class BoardType(BaseModel):
    """One kind of board whose firmware is built here.

    ``firmware``: the artifact's name, which boards are pinned to. ``repository``: URL or path of Klipper's source, and
    ``ref`` the commit, tag or branch of it. ``kconfig``: symbol without ``CONFIG_`` → ``True``, ``False``, number or
    text; ``template``: the file in ``templates/`` that makes a ``.config`` of them. ``overlay``: a directory of extra
    files and patches. ``toolchain``: its name in ``toolchains``. ``flash_offset``: where in the flash the application
    begins, in bytes, behind a bootloader; it must be what the configuration says. ``image``: the file in ``out/`` that
    is flashed.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Name
    chip: str
    firmware: Word
    repository: Annotated[str, Field(min_length=1)]
    ref: Annotated[str, Field(min_length=1)]
    kconfig: dict[str, bool | int | str]
    toolchain: str
    template: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = TEMPLATE
    overlay: str = ""
    flash_offset: Annotated[int, Field(ge=0)] = 0
    image: Annotated[str, Field(pattern=r"^klipper\.(bin|elf|elf\.hex)$")] = "klipper.bin"

    @field_validator("chip")
    @classmethod
    def _known_chip(cls, name: str) -> str:
        try:
            return chip(name).name
        except UnknownChipError as error:
            raise ValueError(str(error)) from None

    @field_validator("kconfig")
    @classmethod
    def _writable(cls, values: dict[str, bool | int | str]) -> dict[str, bool | int | str]:
        try:
            for symbol, value in values.items():
                write_line(symbol, value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return values

    @property
    def target(self) -> Chip:
        return chip(self.chip)


def read_board_types(described: object, toolchains: Mapping[str, Toolchain]) -> dict[str, BoardType]:
    """Return name → board type of the ``board_types`` of group data; raises ``BoardTypeError`` that names the field."""
    if not isinstance(described, Mapping):
        raise BoardTypeError(f"board_types: expected a dictionary of board types, found {described!r:.80}")
    return {str(name): _read(str(name), fields, toolchains) for name, fields in described.items()}


def _read(name: str, fields: Any, toolchains: Mapping[str, Toolchain]) -> BoardType:
    if not isinstance(fields, Mapping):
        raise BoardTypeError(f"board_types.{name}: expected a dictionary, found {fields!r:.80}; see docs/builds.md")
    try:
        found = BoardType.model_validate({**fields, "name": name})
    except ValidationError as error:
        raise BoardTypeError(f"board_types.{name}: {first_problem(error, 'a board type')}") from None
    if found.toolchain not in toolchains:
        there = ", ".join(sorted(toolchains)) or "none"
        raise BoardTypeError(f"board_types.{name}: toolchain {found.toolchain!r} is not described, there is {there}")
    return found
