"""What has been built: a directory with one directory for each build, named by its key.

``<builds>/<key>/build.json`` describes what lies beside it: the image, ``klipper.dict``, ``config`` (the effective
configuration) and ``build.log``. A build appears by one rename, complete and on disk.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fleetflash.firmware.artifact import Sha256, Word
from fleetflash.firmware.durable import sync_directory, write_read_only

DESCRIPTION = "build.json"
CONFIG = "config"
LOG = "build.log"


class BuildKey(BaseModel):
    """Everything that decides what a build makes; equal keys are never built twice.

    ``overlay``: its hash, empty without. ``configuration``: sha256 of the effective one. ``toolchain``: its identity.
    ``zlib``: its version where it is compiled, since the dictionary in the image is compressed by it.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    commit: str
    version: str
    overlay: str
    configuration: Sha256
    toolchain: Sha256
    zlib: str
    image: Word

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class Described(BaseModel, ABC):
    """What is known of any build. ``files``: name → sha256."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    files: dict[str, Sha256]

    @property
    @abstractmethod
    def id(self) -> str:
        """The id of its key."""


class Build(Described):
    """One build. ``address``: what its ELF file is linked to. ``seconds``: what it took. ``builder``: who compiled."""

    key: BuildKey
    repository: str
    toolchain: str
    address: Annotated[int, Field(ge=0)]
    seconds: float
    created: AwareDatetime
    builder: str = ""

    @property
    def id(self) -> str:
        return self.key.id


AnyBuild = TypeVar("AnyBuild", bound=Described)


class Builds(Generic[AnyBuild]):
    """Builds of one kind below a directory, which need not exist."""

    def __init__(self, directory: Path, kind: type[AnyBuild]) -> None:
        self.directory, self.kind = directory, kind

    def path(self, key: str) -> Path:
        return self.directory / key

    def lock(self, key: str) -> Path:
        """Return the lock that is held while a key is built."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f".{key}.lock"

    def find(self, key: str) -> AnyBuild | None:
        """Return the build of a key; ``None`` when there is none, or when it is damaged and must be made again."""
        path = self.path(key)
        try:
            build = self.kind.model_validate_json((path / DESCRIPTION).read_bytes())
            sound = all(_sha256(path / name) == expected for name, expected in build.files.items())
        except (OSError, ValidationError):
            return None
        return build if sound and build.id == key else None

    def publish(self, build: AnyBuild, contents: Mapping[str, bytes]) -> None:
        """Store a build; the caller holds its lock. Raises ``OSError`` when the disk does not take it."""
        final = self.path(build.id)
        temporary, former = self.directory / f".{final.name}.adding", self.directory / f".{final.name}.damaged"
        for stale in (temporary, former):
            shutil.rmtree(stale, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            for name, content in contents.items():
                write_read_only(temporary / name, content)
            write_read_only(temporary / DESCRIPTION, build.model_dump_json(indent=2).encode() + b"\n")
            sync_directory(temporary)
            if final.exists():
                final.rename(former)
            temporary.rename(final)
        finally:
            for stale in (temporary, former):
                shutil.rmtree(stale, ignore_errors=True)
        sync_directory(self.directory)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes())
