"""Hashed requirements and the wheels that they name.

The form is pip's ("Requirements File Format", "Secure installs: Hash-checking mode"): ``name==version`` and at least
one ``--hash=sha256:…`` for each. Other hashes, options, links and editable requirements are refused: they would
depend on more than this file.
"""

import hashlib
import io
import re
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleetflash.provision.errors import RequirementsError

_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;,*]+)")
_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Requirement:
    """A package ``name==version``; ``hashes``: sha256 of each file that may be installed for it."""

    name: str
    hashes: tuple[str, ...]


def read(path: Path) -> str:
    """Return the requirements of a file without comments and blank lines; raises ``RequirementsError``."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementsError(f"{path}: {error}; name a file of hashed requirements") from None
    lines = [re.sub(r"(^|\s)#.*$", "", line) for line in text.replace("\\\n", " ").splitlines()]
    kept = [" ".join(line.split()) for line in lines if line.strip()]
    if not kept:
        raise RequirementsError(f"{path} names no package")
    for line in kept:
        _parse(line, path)
    return "".join(f"{line}\n" for line in kept)


def parse(text: str, path: Path) -> list[Requirement]:
    """Return the requirements in what ``read`` gave."""
    return [_parse(line, path) for line in text.splitlines()]


def _parse(line: str, path: Path) -> Requirement:
    found, hashes = _PINNED.match(line), tuple(_HASH.findall(line))
    if not found or not hashes:
        raise RequirementsError(
            f"{path}: expected name==version --hash=sha256:…, found {line!r:.80}; "
            "`fleetflash wheels DIRECTORY` writes such lines"
        )
    return Requirement(f"{found[1]}=={found[2]}", hashes)


@lru_cache(maxsize=8)
def pack(text: str, path: Path, wheels: Path) -> bytes:
    """Return a tar of those wheels in a directory that the requirements allow; raises ``RequirementsError``.

    The same for all hosts, so it is made once.
    """
    if not wheels.is_dir():
        raise RequirementsError(f"{wheels}: no such directory; `pip wheel --wheel-dir {wheels} …` fills one")
    files = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in sorted(wheels.glob("*.whl"))}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for requirement in parse(text, path):
            chosen = [files[digest] for digest in requirement.hashes if digest in files]
            if not chosen:
                raise RequirementsError(
                    f"{wheels} has no wheel of {requirement.name} with a hash of {path}; "
                    f"`pip download --only-binary=:all: --dest {wheels} {requirement.name}` may get it"
                )
            for file in chosen:
                archive.add(file, file.name)
    return packed.getvalue()


def lock(wheels: Path) -> str:
    """Return requirements that pin exactly the wheels of a directory; raises ``RequirementsError``."""
    found: dict[str, list[str]] = {}
    for file in sorted(wheels.glob("*.whl")):
        name, version = file.name.split("-")[:2]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found.setdefault(f"{name.replace('_', '-').lower()}=={version}", []).append(digest)
    if not found:
        raise RequirementsError(f"{wheels} has no wheels; `pip wheel --wheel-dir {wheels} …` fills it")
    return "".join(f"{name} {' '.join(f'--hash=sha256:{d}' for d in hashes)}\n" for name, hashes in found.items())
