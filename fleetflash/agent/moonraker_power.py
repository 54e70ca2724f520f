"""The power devices of Moonraker, asked on its own host.

Source: Moonraker's documentation, External API, "Switches, Sensors, and Devices": ``GET /machine/device_power/devices``
lists each device's ``device``, ``status`` and ``type``; ``POST /machine/device_power/device`` with ``device`` and
``action`` answers the device's name and its state, ``on``, ``off``, ``init`` or ``error``. All is below ``result``.
"""

import json
import urllib.error
import urllib.request
from typing import Any, Dict, Optional

#: The type of a device that Klipper switches.
KLIPPER_DEVICE = "klipper_device"
LIST_SECONDS = 5.0
_MOST = 256 * 1024


class MoonrakerPowerError(Exception):
    """Moonraker does not do, or say, what it was asked. The message names its address."""


class SilentMoonrakerError(MoonrakerPowerError):
    """Nobody answers at Moonraker's address."""


def devices(port: int) -> Dict[str, str]:
    """Return the power devices that Moonraker has: name → type; none where it is configured without any."""
    found = _ask(port, "/machine/device_power/devices", None, LIST_SECONDS, absent={"devices": []})
    return {str(device["device"]): str(device.get("type", "")) for device in found["devices"]}


def switch(port: int, device: str, on: bool, seconds: float) -> None:
    """Switch a device; raises ``MoonrakerPowerError`` unless Moonraker says that it is in that state."""
    action = "on" if on else "off"
    found = _ask(port, "/machine/device_power/device", {"device": device, "action": action}, seconds)
    if found.get(device) != action:
        raise MoonrakerPowerError(
            f"Moonraker (port {port}): power device {device} was switched {action}, but is {found.get(device)!r:.40}"
        )


def _ask(
    port: int, path: str, body: Optional[Dict[str, str]], seconds: float, absent: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    address = f"http://127.0.0.1:{port}{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    # A proxy that is set for the host has no business on its loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as response:
            result = json.loads(response.read(_MOST))["result"]
    except urllib.error.HTTPError as error:
        if error.code == 404 and absent is not None:
            return absent
        raise MoonrakerPowerError(f"{address}: {_reason(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MoonrakerPowerError(f"{address}: this is not Moonraker's answer ({error})") from None
    except OSError as error:
        raise SilentMoonrakerError(f"{address}: {getattr(error, 'reason', '') or error}") from None
    if not isinstance(result, dict):
        raise MoonrakerPowerError(f"{address}: expected an object, got {result!r:.80}")
    return result


def _reason(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return "it asks for a login; add 127.0.0.0/8 to trusted_clients in moonraker.conf"
    try:
        said = str(json.loads(error.read(_MOST))["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        said = ""
    return f"HTTP {error.code}" + (f" ({' '.join(said.split())[:160]})" if said else "")
