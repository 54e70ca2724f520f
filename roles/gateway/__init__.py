"""ESP32 gateways: their firmware, built on the controller.

Their hosts get esptool from ``roles.flash_tools``, and they are flashed by ``roles.klipper_host`` in the same operation
as printers' boards, so that one run brings all hosts to their state at once.
"""

from collections.abc import Iterable

from fleetflash.operations import gateway_firmware


def gateway_builds(names: Iterable[str]) -> None:
    """Build the firmware of these gateway types (``gateway_types`` in the data) that is not built yet."""
    for name in names:
        gateway_firmware.built(name=f"Firmware of gateway {name} is built", gateway_type=name)
