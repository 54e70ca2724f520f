"""Saying whether secrets changed, without saying anything about them.

A plain hash of a configuration could be tried out with a list of passwords. So secrets are hashed with a random key
that lies in the cache, for its owner alone, and leaves it never (RFC 2104, HMAC).
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from fleetflash.build.lock import held
from fleetflash.secret import Secret

_BYTES = 32


def keyed_hash(values: Mapping[str, Secret], key: Path) -> str:
    """Return the HMAC-SHA256 over named secrets, empty without any; the key is made when there is none."""
    if not values:
        return ""
    content = json.dumps({name: secret.reveal() for name, secret in values.items()}, sort_keys=True)
    return hmac.new(_read_or_make(key), content.encode(), hashlib.sha256).hexdigest()


def _read_or_make(key: Path) -> bytes:
    key.parent.mkdir(parents=True, exist_ok=True)
    with held(key.with_suffix(".lock")):
        if key.is_file() and len(found := key.read_bytes()) == _BYTES:
            return found
        key.unlink(missing_ok=True)
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            made = secrets.token_bytes(_BYTES)
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        return made
