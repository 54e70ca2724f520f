"""An artifact: image files for one chip, with what is known about them, described by ``artifact.json``."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fleetflash.firmware.errors import ArtifactError
from fleetflash.firmware.klipper_dictionary import KlipperDictionary
from fleetflash.secret import NAME

DESCRIPTION = "artifact.json"
SCHEMA_VERSION = 1

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def _word(value: str) -> str:
    """Refuse what could not be a directory entry, a command line argument and a column of a table."""
    if not _WORD.fullmatch(value):
        raise ValueError("expected a word of letters, digits and . _ + - (a letter or digit first)")
    return value


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, AfterValidator(_word)]

_SECRET = re.compile(NAME, re.IGNORECASE)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ArtifactFile(_Strict):
    """One file of an artifact: ``size`` bytes that belong at ``offset`` from the start of flash."""

    name: Word
    offset: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256

    @field_validator("name")
    @classmethod
    def _not_the_description(cls, name: str) -> str:
        if name == DESCRIPTION:
            raise ValueError(f"a file cannot be called {DESCRIPTION}")
        return name


class KlipperFacts(_Strict):
    """What the image's Klipper dictionary says; see ``KlipperDictionary``."""

    version: str
    build_versions: str
    mcu: str
    constants: dict[str, int | str]
    dictionary_sha256: Sha256
    app: str = ""

    @classmethod
    def of(cls, dictionary: KlipperDictionary) -> "KlipperFacts":
        return cls(
            version=dictionary.version,
            build_versions=dictionary.build_versions,
            mcu=dictionary.mcu,
            constants=dict(dictionary.constants),
            dictionary_sha256=dictionary.raw_sha256,
            app=dictionary.app,
        )

    def describes(self, version: str, build_versions: str, constants: Mapping[str, int | str]) -> bool:
        """Say whether a running firmware that reports these is this one; equal versions alone can mislead."""
        return (version, build_versions, dict(constants)) == (
            self.version,
            self.build_versions,
            self.constants,
        )


class EspFacts(_Strict):
    """What an ESP chip's application says of itself (its ``esp_app_desc_t``), empty where there is none.

    ``packed_sha256``: of the archive of all files (``agent.protocols.flash_parts``), which is what a host is given.
    ``flash_bytes``: what the partition table, or else the last file, needs. ``settings``: the NVS partitions that the
    files overwrite; ``filesystems``: other data partitions that they do.
    """

    project: str = ""
    version: str = ""
    idf_version: str = ""
    elf_sha256: str = ""
    packed_sha256: Sha256
    flash_bytes: Annotated[int, Field(gt=0)]
    settings: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()


class Artifact(_Strict):
    """Image files for one chip.

    ``kind`` is ``klipper`` or ``esp`` (then the field of that name holds its facts) or ``raw``, such as a vendor's.
    ``labels`` are sorted words such as ``factory``. ``build`` holds free facts of the build (commit,
    configuration hash, …); keys that look like secrets are refused, since everybody may read them.
    """

    schema_version: Literal[1]
    kind: Literal["klipper", "esp", "raw"]
    name: Word
    version: Annotated[str, Field(min_length=1, max_length=200)]
    chip: Word
    files: Annotated[tuple[ArtifactFile, ...], Field(min_length=1)]
    klipper: KlipperFacts | None = None
    esp: EspFacts | None = None
    build: dict[str, str | int | bool] = {}
    labels: tuple[Word, ...] = ()
    created: AwareDatetime

    @property
    def id(self) -> str:
        """The sha256 of what would be written and to which chip, and of nothing else.

        Names, versions, labels, facts and dates stay outside, so that the same image registered twice is one
        artifact.
        """
        files = sorted((file.offset, file.size, file.sha256) for file in self.files)
        content = {"chip": self.chip, "files": files}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def image_sha256(self) -> str:
        """The sha256 of the one image that a host is given for it."""
        return self.esp.packed_sha256 if self.esp else self.files[0].sha256

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def file(self, name: str) -> ArtifactFile:
        """Return the file of that name, or raise ``ArtifactError``."""
        for file in self.files:
            if file.name == name:
                return file
        raise ArtifactError(f"{self} has no file {name!r}, it has {', '.join(file.name for file in self.files)}")

    def __str__(self) -> str:
        return f"{self.name} {self.version} for {self.chip} (sha256:{self.short_id})"

    @field_validator("version")
    @classmethod
    def _printable_version(cls, version: str) -> str:
        if not version.isprintable() or version != version.strip():
            raise ValueError("expected printable text without blanks around it")
        return version

    @field_validator("labels")
    @classmethod
    def _sorted_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(labels)))

    @field_validator("build")
    @classmethod
    def _no_secrets(cls, build: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for key in build:
            if _SECRET.search(key):
                raise ValueError(f"the build fact {key!r} looks like a secret; leave it out")
        return build

    @model_validator(mode="after")
    def _consistent(self) -> "Artifact":
        if (self.kind == "klipper") != (self.klipper is not None):
            raise ValueError("expected Klipper facts with kind klipper, and none with another")
        if (self.kind == "esp") != (self.esp is not None):
            raise ValueError("expected facts of an ESP image with kind esp, and none with another")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two files have the same name")
        end = 0
        for file in sorted(self.files, key=lambda file: file.offset):
            if file.offset < end:
                raise ValueError(f"the file {file.name} at {file.offset:#x} overlaps the one before it")
            end = file.offset + file.size
        return self


def make_artifact(**fields: Any) -> Artifact:
    """Return an ``Artifact`` of the current schema, or raise ``ArtifactError`` in one line."""
    try:
        return Artifact.model_validate({"schema_version": SCHEMA_VERSION, **fields})
    except ValidationError as error:
        raise ArtifactError(f"this cannot be an artifact: {_first_problem(error)}") from None


@functools.lru_cache(maxsize=1024)  # every host of a fleet is compared with the same store
def parse_artifact(text: bytes) -> Artifact:
    """Return the artifact that an ``artifact.json`` describes, or raise ``ArtifactError`` in one line."""
    try:
        found = json.loads(text).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        raise ArtifactError(f"{DESCRIPTION} is not a JSON object") from None
    if isinstance(found, int) and found > SCHEMA_VERSION:
        raise ArtifactError(
            f"{DESCRIPTION} has schema version {found}, this fleetflash reads {SCHEMA_VERSION}; update it"
        )
    try:
        return Artifact.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"{DESCRIPTION} is not valid: {_first_problem(error)}") from None


def write_artifact(artifact: Artifact) -> bytes:
    """Return the ``artifact.json`` of an artifact."""
    return json.dumps(artifact.model_dump(mode="json"), indent=2, sort_keys=True).encode() + b"\n"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    # Not shown: containers, which tell nobody anything, and build facts, which may hold a secret.
    shown = isinstance(problem["input"], str | int | float) and problem["loc"][:1] != ("build",)
    found = f", found {problem['input']!r:.80}" if shown else ""
    return f"{where + ': ' if where else ''}{said}{found}"
