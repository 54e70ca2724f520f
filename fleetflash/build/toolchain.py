"""A toolchain as desired state: pinned Debian packages, or a pinned archive for each architecture."""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetflash.build.download import SCHEMES
from fleetflash.build.errors import BoardTypeError, ToolchainError


def _inside(directory: str) -> str:
    path = PurePosixPath(directory)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("expected a directory inside of the archive")
    return directory


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
InsideArchive = Annotated[str, AfterValidator(_inside)]


class Archive(BaseModel):
    """The archive for one architecture: where it can be had (tried in order), and its sha256."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    urls: Annotated[tuple[str, ...], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("urls", mode="before")
    @classmethod
    def _as_tuple(cls, urls: Any) -> Any:
        return tuple(urls) if isinstance(urls, list) else (urls,) if isinstance(urls, str) else urls

    @field_validator("urls")
    @classmethod
    def _known_scheme(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if urlsplit(url).scheme not in SCHEMES:
                raise ValueError(f"expected a URL of {', '.join(SCHEMES)}")
        return urls


class Toolchain(BaseModel):
    """What builds firmware.

    ``debian``: package → version, ``*`` at its end for any rest; they are checked, never installed by us.
    ``archives``: architecture as ``uname -m`` says it → archive. ``bin``: the directory of the programs inside of it.
    ``programs``: what must be in there, e.g. ``riscv-none-elf-gcc``.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Name
    version: Name
    debian: dict[str, str] = {}
    archives: dict[str, Archive] = {}
    bin: InsideArchive = "bin"
    programs: tuple[str, ...] = ()

    @field_validator("programs", mode="before")
    @classmethod
    def _as_tuple(cls, programs: Any) -> Any:
        return tuple(programs) if isinstance(programs, list) else programs

    @model_validator(mode="after")
    def _one_kind(self) -> "Toolchain":
        if bool(self.debian) == bool(self.archives):
            raise ValueError("expected either debian (packages) or archives")
        if self.debian and (self.programs or self.bin != "bin"):
            raise ValueError("bin and programs are for archives; packages have a place of their own")
        return self

    def archive(self, architecture: str | None = None) -> Archive:
        """Return the archive for an architecture, by default this computer's; raises ``ToolchainError``."""
        architecture = architecture or platform.machine()
        if architecture not in self.archives:
            raise ToolchainError(
                f"toolchain {self}: no archive for {architecture}, there is {', '.join(sorted(self.archives))}; "
                "add one with its sha256, or build elsewhere"
            )
        return self.archives[architecture]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def identity(facts: Mapping[str, str]) -> str:
    """Return the sha256 over what decides a toolchain's output, such as its archive's hash or its packages."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_toolchains(described: object) -> dict[str, Toolchain]:
    """Return name → toolchain of the ``toolchains`` of group data; raises ``BoardTypeError`` that names the field."""
    if not isinstance(described, Mapping):
        raise BoardTypeError(f"toolchains: expected a dictionary of toolchains, found {described!r:.80}")
    found = {}
    for name, fields in described.items():
        if not isinstance(fields, Mapping):
            raise BoardTypeError(f"toolchains.{name}: expected a dictionary, found {fields!r:.80}")
        try:
            found[str(name)] = Toolchain.model_validate({**fields, "name": name})
        except ValidationError as error:
            raise BoardTypeError(f"toolchains.{name}: {first_problem(error, 'a toolchain')}") from None
    return found


def first_problem(error: ValidationError, kind: str, page: str = "docs/builds.md") -> str:
    """Return what is wrong with one field, in one line that names it and the page that tells of it."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing; see {page}"
    if problem["type"] == "extra_forbidden":
        return f"{where} is no field of {kind}; see {page}"
    said = problem["msg"].removeprefix("Value error, ")
    found = f", found {problem['input']!r:.80}" if where else ""
    return f"{where + ': ' if where else ''}{said}{found}; see {page}"
