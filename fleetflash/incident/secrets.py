"""Which values of an inventory are secret: by the name that they have, or because the inventory says so."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleetflash.secret import NAME

NAMED = re.compile(NAME, re.IGNORECASE)
#: Data keys by which an inventory says so: every value below the first; every value of a key that the second lists.
SECRETS, SECRET_KEYS = "secrets", "secret_keys"
#: A URL's password: what is between the colon and the @ before the host (RFC 3986, section 3.2.1).
_URL_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@", re.IGNORECASE)


def secret_values(data: Mapping[str, Any]) -> frozenset[str]:
    """Return every secret value of a host's data, as text.

    A value is secret when the name of it, or of anything around it, sounds like one (``wifi_password``), is
    ``secrets``, or is in the data's list ``secret_keys``; so is the password in any URL.
    """
    listed = data.get(SECRET_KEYS, ())
    keys = (
        frozenset(map(str, listed)) if isinstance(listed, (list, tuple, set, frozenset)) else frozenset({str(listed)})
    )
    return frozenset(value for value in _values(data, keys, secret=False) if value.strip())


def _values(value: Any, keys: frozenset[str], secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = str(key)
            if name != SECRET_KEYS:
                yield from _values(item, keys, secret or name in keys or name == SECRETS or bool(NAMED.search(name)))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _values(item, keys, secret)
    elif isinstance(value, bytes):
        yield from _values(value.decode(errors="replace"), keys, secret)
    elif isinstance(value, str):
        yield from [value] if secret else _URL_PASSWORD.findall(value)
    elif secret and isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
