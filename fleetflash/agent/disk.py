"""Files that survive a power cut: written beside, synced, renamed, and their directory synced too."""

import json
import os
from pathlib import Path
from typing import Any, Optional


def sync_directory(directory: Path) -> None:
    descriptor = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path, mode: int = 0o755) -> None:
    """Create ``directory`` and its parents, each made durable."""
    missing = []
    current = directory
    while not current.exists():
        missing.append(current)
        current = current.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        os.chmod(str(path), mode)  # whatever the umask of a login shell's start-up files
        sync_directory(path.parent)


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``; a reader, or a boot after a power cut, sees all of the old or all of the new."""
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(str(temporary), mode)
        os.replace(str(temporary), str(path))
    except BaseException:
        remove(temporary)
        raise
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_file(path, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


def read_json(path: Path) -> Optional[Any]:
    """Return the content of a JSON file, or ``None`` when it is absent, unreadable or torn."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remove(path: Path) -> None:
    """Remove a file durably; an absent one is fine."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def sha256_file(path: Path) -> str:
    """Return the hash of a file's content, or an empty string when it is absent."""
    import hashlib  # not for those who only look

    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for piece in iter(lambda: file.read(1 << 16), b""):
                digest.update(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()
