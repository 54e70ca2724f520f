"""What Moonraker says of itself and of klippy, asked on its own host.

Source: Moonraker's documentation, External API, "Query Server Info": ``GET /server/info`` answers ``klippy_connected``,
``klippy_state`` and ``moonraker_version`` below ``result``.
"""

import json
import urllib.error
import urllib.request
from typing import Dict

VERSION, STATE, ERROR = "version", "klippy", "error"
SECONDS = 5.0
_MOST = 256 * 1024


def ask(port: int) -> Dict[str, str]:
    """Return ``version`` and ``klippy`` (the state that it sees), or ``error``."""
    address = f"http://127.0.0.1:{port}/server/info"
    # A proxy that is set for the host has no business on its loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=SECONDS) as response:
            result = json.loads(response.read(_MOST))["result"]
            return {VERSION: str(result["moonraker_version"]), STATE: str(result["klippy_state"])}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return {ERROR: f"{address}: it asks for a login; add 127.0.0.0/8 to trusted_clients in moonraker.conf"}
        return {ERROR: f"{address}: HTTP {error.code}"}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return {ERROR: f"{address}: {getattr(error, 'reason', '') or error}"}
