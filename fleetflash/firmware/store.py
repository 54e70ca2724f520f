"""The artifact store: a directory with one directory for each artifact, named by its id.

``<store>/<id>/artifact.json`` describes the files beside it. An artifact appears by one rename, complete and
on disk, and its files never change; only its description is replaced when labels are merged.
"""

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.agent.protocols.flash_parts import Part, pack
from fleetflash.firmware.artifact import (
    DESCRIPTION,
    Artifact,
    ArtifactFile,
    KlipperFacts,
    parse_artifact,
    write_artifact,
)
from fleetflash.firmware.backup_store import DIRECTORY as BACKUPS
from fleetflash.firmware.chips import chip as chip_by_name
from fleetflash.firmware.content import content_problem, corrupt, read_bytes, read_content
from fleetflash.firmware.durable import one_writer, sync_directory, write_read_only
from fleetflash.firmware.errors import (
    AmbiguousArtifactError,
    ArtifactConflictError,
    ArtifactError,
    ArtifactMissingError,
    DictionaryError,
    StoreError,
)
from fleetflash.firmware.klipper_dictionary import find_dictionaries
from fleetflash.firmware.location import ENVIRONMENT, SYMBOLS, default_store
from fleetflash.firmware.registration import describe_image
from fleetflash.firmware.versions import check_pin, pinned_id

_ID = re.compile(r"[0-9a-f]{64}")
_ID_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_LOCK = ".lock"
_UNFINISHED = ".adding-"
# An add takes seconds; what is older was left by one that died.
_UNFINISHED_SECONDS = 3600


@dataclass(frozen=True)
class Problem:
    """What ``verify`` found wrong: the artifact's id (or a directory entry) and one line."""

    artifact: str
    detail: str


class Store:
    """Artifacts in a directory, which need not exist before the first ``add``.

    Raises ``StoreError`` and its subclasses, always in one line.
    """

    def __init__(self, directory: Path | str | None = None) -> None:
        self.directory = Path(directory).expanduser() if directory is not None else default_store()

    def add(
        self,
        path: Path | str,
        *,
        chip: str,
        name: str,
        version: str | None = None,
        label: str | None = None,
        offset: int | None = None,
        raw: bool = False,
        build: Mapping[str, str | int | bool] | None = None,
    ) -> Artifact:
        """Register an image file and return its artifact; the same image again only merges its label.

        + chip: for which chip; the image must fit it
        + name: which firmware it is, e.g. ``bmcu-c``
        + version: for an image without a Klipper dictionary; else it is read, and must agree if given
        + label: a word to find it by, e.g. ``factory``
        + offset: where in flash a raw file belongs, in bytes (behind a bootloader); hex and ELF say it
        + raw: accept an image that is not Klipper, such as a vendor's firmware
        + build: facts of its build, readable by everybody

        Raises ``ImageError``, ``ImageFitError``, ``UnknownChipError``, ``PinError``, ``ArtifactError`` or
        ``StoreError``.
        """
        artifact, contents = describe_image(
            path, chip=chip, name=name, version=version, label=label, offset=offset, raw=raw, build=build
        )
        return self.publish(artifact, contents)

    def publish(self, artifact: Artifact, contents: Mapping[str, bytes]) -> Artifact:
        """Store an artifact whose files have these contents, by name; merge labels when it is there already.

        For builds and backups, which make their own description; ``add`` is for image files.
        """
        for file in artifact.files:
            if (problem := content_problem(file, contents.get(file.name))) is not None:
                raise ArtifactError(f"{artifact}: {file.name}: {problem}; describe the content that is given")
        with _reported(self.directory):
            # Images may hold credentials (Wi-Fi of a gateway), so a new store is its owner's alone.
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with one_writer(self.directory / _LOCK):
                if (self.directory / artifact.id).exists():
                    return self._merge(artifact)
                self._write_new(artifact, contents)
                return artifact

    def has(self, artifact: Artifact) -> bool:
        """Whether an artifact is there, under the same name and version."""
        try:
            found = self.get(artifact.id)
        except ArtifactMissingError:
            return False
        return (found.name, found.version) == (artifact.name, artifact.version)

    def get(self, id_prefix: str) -> Artifact:
        """Return the artifact of an id, or of a beginning that only one has, with or without ``sha256:``."""
        prefix = id_prefix.removeprefix("sha256:").lower()
        if not _ID_PREFIX.fullmatch(prefix):
            raise ArtifactMissingError(
                f"{id_prefix!r} is no artifact id; give at least 4 hexadecimal digits of one, "
                "'fleetflash artifact list' shows them"
            )
        ids = [found for found in self._ids() if found.startswith(prefix)]
        if not ids:
            raise ArtifactMissingError(
                f"no artifact {prefix} in {self.directory}; 'fleetflash artifact list' shows what is there"
            )
        if len(ids) > 1:
            shown = ", ".join(found[: len(prefix) + 8] for found in ids)
            raise AmbiguousArtifactError(f"{len(ids)} artifacts begin with {prefix}: {shown}; give more digits")
        return self._read(ids[0])

    def find(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        chip: str | None = None,
        label: str | None = None,
    ) -> list[Artifact]:
        """Return the artifacts with all of these, ordered by name, version, chip and id."""
        found = [
            artifact
            for artifact in map(self._read, self._ids())
            if (name is None or artifact.name == name)
            and (version is None or artifact.version == version)
            and (chip is None or artifact.chip == chip.lower())
            and (label is None or label in artifact.labels)
        ]
        return sorted(found, key=lambda a: (a.name, a.version, a.chip, a.id))

    def find_running(
        self, *, chip: str, version: str, build_versions: str, constants: Mapping[str, int | str]
    ) -> list[Artifact]:
        """Return the artifacts which are the firmware that a board reports: all three agree."""
        return [
            artifact
            for artifact in self.find(chip=chip)
            if artifact.klipper and artifact.klipper.describes(version, build_versions, constants)
        ]

    def resolve(self, name: str, version: object, chip: str) -> Artifact:
        """Return the one artifact that a pin means: a version, or ``sha256:`` and the beginning of an id.

        Raises ``PinError`` for a pin that is no string, ``ArtifactMissingError`` with the versions that are
        there, and ``AmbiguousArtifactError`` naming the candidates.
        """
        pin = check_pin(version)
        known_chip = chip_by_name(chip)
        if (prefix := pinned_id(pin)) is not None:
            artifact = self.get(prefix)
            if (artifact.name, artifact.chip) != (name, known_chip.name):
                raise ArtifactMissingError(
                    f"{pin} is {artifact}, expected {name} for {known_chip.name}; pin another artifact"
                )
            return artifact
        found = self.find(name=name, version=pin, chip=known_chip.name)
        if len(found) == 1:
            return found[0]
        if not found:
            raise ArtifactMissingError(self._missing(name, pin, known_chip.name))
        candidates = " and ".join(f"sha256:{a.short_id} (added {a.created:%Y-%m-%d %H:%M})" for a in found)
        raise AmbiguousArtifactError(
            f"{len(found)} artifacts are {name} {pin} for {known_chip.name}: {candidates}; "
            f"pin one by its id, e.g. 'sha256:{found[0].short_id}'"
        )

    def path(self, artifact: Artifact, file: ArtifactFile | None = None) -> Path:
        """Return where a file of an artifact lies, or the artifact's directory; content is not checked."""
        directory = self.directory / artifact.id
        return directory / file.name if file else directory

    def read_file(self, artifact: Artifact, file: ArtifactFile | str | None = None) -> bytes:
        """Return the content of a file (the only one, if none is named), checked by size and sha256.

        Raises ``CorruptArtifactError`` when it is missing or differs.
        """
        if file is None:
            if len(artifact.files) > 1:
                raise ArtifactError(f"{artifact} has {len(artifact.files)} files; name the one to read")
            file = artifact.files[0]
        entry = artifact.file(file if isinstance(file, str) else file.name)
        return read_content(self.path(artifact, entry), entry)

    def read_image(self, artifact: Artifact) -> bytes:
        """Return the one image that a host is given: the only file, or the archive of those of an ESP chip.

        Raises ``CorruptArtifactError`` when a file is missing or differs.
        """
        if artifact.esp is None:
            return self.read_file(artifact)
        return pack(Part(file.offset, self.read_file(artifact, file)) for file in artifact.files)

    def verify(self) -> list[Problem]:
        """Check every artifact and return what is wrong: bad, missing or stray files, wrong facts."""
        problems = []
        with _reported(self.directory):
            for entry in self._entries():
                if _ID.fullmatch(entry):
                    problems += [Problem(entry, detail) for detail in self._problems_of(entry)]
                elif entry.startswith(_UNFINISHED):
                    if _age(self.directory / entry) > _UNFINISHED_SECONDS:
                        problems.append(Problem(entry, "left by an add that died; remove it"))
                elif entry not in (_LOCK, BACKUPS, SYMBOLS):
                    problems.append(Problem(entry, "does not belong in the store; remove it"))
        return problems

    def _problems_of(self, id: str) -> Iterator[str]:
        try:
            artifact = self._read(id)
        except StoreError as error:
            yield str(error)
            return
        expected = {DESCRIPTION, *(file.name for file in artifact.files)}
        for extra in sorted({path.name for path in self.path(artifact).iterdir()} - expected):
            yield f"{extra} is not part of the artifact; remove it"
        for file in artifact.files:
            try:
                content = self.read_file(artifact, file)
            except StoreError as error:
                yield str(error)
                continue
            if artifact.klipper and len(artifact.files) == 1:
                yield from _fact_problems(artifact.klipper, content)
        if artifact.esp:
            yield from self._packing_problems(artifact)

    def _packing_problems(self, artifact: Artifact) -> Iterator[str]:
        try:
            found = hashlib.sha256(self.read_image(artifact)).hexdigest()
        except StoreError:
            return  # its files were told of already
        if found != artifact.image_sha256:
            yield f"{DESCRIPTION} says {artifact.image_sha256[:12]} of the packed image; remove it and add it again"

    def _missing(self, name: str, version: str, chip: str) -> str:
        same = self.find(name=name)
        for_chip = sorted({artifact.version for artifact in same if artifact.chip == chip})
        if for_chip:
            there = f"there is {', '.join(for_chip)}"
        elif same:
            there = f"{name} is there for {', '.join(sorted({a.chip for a in same}))} only"
        else:
            names = sorted({artifact.name for artifact in self.find()})
            there = f"there is {', '.join(names)}" if names else "the store is empty"
        return (
            f"no artifact {name} {version} for {chip} in {self.directory}: {there}; add it with "
            f"'fleetflash artifact add FILE --chip {chip} --name {name}'"
        )

    def _entries(self) -> list[str]:
        with _reported(self.directory):
            return sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []

    def _ids(self) -> list[str]:
        return [entry for entry in self._entries() if _ID.fullmatch(entry)]

    def _read(self, id: str) -> Artifact:
        path = self.directory / id / DESCRIPTION
        try:
            artifact = parse_artifact(read_bytes(path))
        except ArtifactError as error:
            raise corrupt(path, str(error)) from None
        if artifact.id != id:
            raise corrupt(path, f"describes {artifact.short_id}, expected {id[:12]}")
        return artifact

    def _merge(self, artifact: Artifact) -> Artifact:
        stored = self._read(artifact.id)
        if (stored.name, stored.version) != (artifact.name, artifact.version):
            raise ArtifactConflictError(
                f"this image is registered already as {stored}; use that name and version, "
                f"not {artifact.name} {artifact.version}"
            )
        for file in stored.files:
            self.read_file(stored, file)
        merged = stored.model_copy(update={"labels": tuple(sorted({*stored.labels, *artifact.labels}))})
        if merged != stored:
            directory = self.path(stored)
            temporary = directory / f"{_UNFINISHED}{DESCRIPTION}"
            temporary.unlink(missing_ok=True)
            write_read_only(temporary, write_artifact(merged))
            temporary.replace(directory / DESCRIPTION)
            sync_directory(directory)
        return merged

    def _write_new(self, artifact: Artifact, contents: Mapping[str, bytes]) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.directory))
        try:
            for file in artifact.files:
                write_read_only(temporary / file.name, contents[file.name])
            write_read_only(temporary / DESCRIPTION, write_artifact(artifact))
            temporary.chmod(0o755)
            sync_directory(temporary)
            temporary.rename(self.path(artifact))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(self.directory)


def _fact_problems(facts: KlipperFacts, content: bytes) -> Iterator[str]:
    """Compare the description with the image, since the id does not cover the facts."""
    try:
        found = [KlipperFacts.of(dictionary) for _, dictionary in find_dictionaries(content)]
    except DictionaryError as error:
        yield str(error)
        return
    if facts not in found:
        yield f"{DESCRIPTION} and the image disagree about {facts.version!r}; remove it and add it again"


def _age(path: Path) -> float:
    """Return seconds since a directory was changed; 0 for one that has gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _reported(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or error
        raise StoreError(
            f"artifact store {directory}: {problem}; give another with --store or ${ENVIRONMENT}"
        ) from None
