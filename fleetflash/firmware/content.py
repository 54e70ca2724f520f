"""The content of an artifact's files, checked against its description whenever it is read."""

import hashlib
from pathlib import Path

from fleetflash.firmware.artifact import ArtifactFile
from fleetflash.firmware.errors import CorruptArtifactError, StoreError


def content_problem(file: ArtifactFile, content: bytes | None) -> str | None:
    """Return how content differs from its description, or ``None``."""
    if content is None:
        return "no content"
    if len(content) != file.size:
        return f"{len(content)} bytes, expected {file.size}"
    found = hashlib.sha256(content).hexdigest()
    return None if found == file.sha256 else f"sha256 {found[:12]}…, expected {file.sha256[:12]}…"


def read_content(path: Path, file: ArtifactFile) -> bytes:
    """Return a file's content; ``CorruptArtifactError`` when it is missing or not as described."""
    content = read_bytes(path)
    if (problem := content_problem(file, content)) is not None:
        raise corrupt(path, problem)
    return content


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file inside an artifact's directory, or raise ``StoreError``."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise corrupt(path, "missing") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; make it readable") from None


def corrupt(path: Path, problem: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path}: {problem}; remove {path.parent} and add the image again")
