"""The agent as one zip archive, the same bytes from the same sources, so that its hash names it."""

import functools
import hashlib
import io
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# What the bootstrap has put on the path is the same, compiled; it goes before this archive, which is first by now.
_START = """import sys

if sys.path[1].endswith("." + sys.implementation.cache_tag + ".zip"):
    sys.path.insert(0, sys.path.pop(1))

from fleetflash.agent.__main__ import main

sys.exit(main())
"""
#: The earliest moment that a zip archive can express.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


@functools.cache
def archive() -> tuple[str, bytes]:
    """Return the SHA-256 (hexadecimal) and the bytes of the agent."""
    files = {"__main__.py": _START.encode(), "fleetflash/__init__.py": b""}
    for path in (_PACKAGE / "agent").rglob("*.py"):
        files[f"fleetflash/{path.relative_to(_PACKAGE).as_posix()}"] = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            file.writestr(entry, files[name])
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest(), data
