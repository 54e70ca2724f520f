"""The record of a release: one gateway, its firmware, and what was looked at before it counted as released."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fleetflash.firmware.artifact import Artifact, Sha256

#: What a release can't be told by is no id: it is a directory's name, too.
_UNFIT = re.compile(r"[^A-Za-z0-9._+-]+")
_STRICT = ConfigDict(strict=True, frozen=True, extra="forbid")


class ReleaseError(Exception):
    """A release can't be made, read or copied. One line that says what to do."""


class Looked(BaseModel):
    """A row of ``fleetflash verify`` as it was then."""

    model_config = _STRICT

    name: str
    expected: str
    found: str
    result: str
    detail: str = ""


class Boot(BaseModel):
    """A boot log and its verdict. ``summary``: why it was rejected."""

    model_config = _STRICT

    log: str
    contract: str
    accepted: bool
    summary: str = ""


class Release(BaseModel):
    """``artifact``: its id. ``image_sha256``: of what was written. ``files``: path in the release → sha256.

    ``commit``, ``configuration`` (its hash without secrets) and ``idf_version`` are empty where nobody knows them: for
    firmware that was registered from files. ``boots``: every attempt of the last flash, the last one counts.
    """

    model_config = _STRICT

    schema_version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    at: AwareDatetime
    operator: str
    site: Annotated[str, Field(min_length=1)]
    host: str
    board: str
    firmware: str
    version: str
    chip: str
    artifact: Sha256
    image_sha256: Sha256
    commit: str = ""
    configuration: str = ""
    idf_version: str = ""
    checks: tuple[Looked, ...] = ()
    boots: tuple[Boot, ...] = ()
    files: dict[str, Sha256] = {}

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"


def release_id(at: datetime, host: str, board: str, artifact: Artifact) -> str:
    """Return an id that sorts by time and says what it is."""
    return _UNFIT.sub("-", f"{at:%Y%m%dT%H%M%SZ}-{host}-{board}-{artifact.version}")


def parse_release(content: bytes, where: str) -> Release:
    """Return the release that a ``release.json`` describes; raises ``ReleaseError`` that names ``where``."""
    try:
        return Release.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ReleaseError(f"{where}: {field}: {problem['msg']}; it is damaged, take a copy of it") from None
