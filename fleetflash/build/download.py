"""Fetching a file whose content is known before: by its sha256."""

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from fleetflash.build.errors import DownloadError

SCHEMES = ("https", "http", "file")
#: Silence of a server after which it is given up, in seconds.
TIMEOUT = 30.0
_CHUNK = 1 << 18


def fetch(urls: Sequence[str], sha256: str, path: Path) -> None:
    """Write the content of the first URL that gives it to ``path``; nothing is left there when none does.

    Raises ``DownloadError``, which says of every URL what was wrong with it; ``OSError`` when the disk is full.
    """
    problems = []
    for url in urls:
        try:
            found = _copy(url, path)
            if found == sha256:
                return
            problems.append(f"{_shown(url)} has sha256 {found}, expected {sha256}")
        except urllib.error.URLError as error:
            problems.append(f"{_shown(url)}: {getattr(error, 'code', '')} {error.reason}".replace(":  ", ": "))
        except (http.client.HTTPException, TimeoutError, ConnectionError, _CutShortError) as error:
            problems.append(f"{_shown(url)}: {error}")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)
    raise DownloadError("; ".join(problems))


class _CutShortError(Exception):
    """The connection ended before the content did."""


def _copy(url: str, path: Path) -> str:
    """Copy to ``path``, on disk when this returns; returns the sha256 of what came."""
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        announced = answer.headers.get("Content-Length", "")
        while chunk := _read(answer):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
        if announced.isdecimal() and received < int(announced):
            raise _CutShortError(f"ended after {received} of {announced} bytes")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _read(answer: IO[bytes]) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        # Told apart from what writing the file may raise.
        raise _CutShortError(f"the connection broke ({error!r})") from None


def _shown(url: str) -> str:
    """Return a URL without what may be a password in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
