"""The computer that builds firmware: this one."""

from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from fleetflash.operations import firmware, gateway_firmware


@deploy("Builder")
def builder() -> None:
    """Build the firmware of every board and gateway type that is not built yet, with toolchains as they are pinned."""
    for name in _names("board_types"):
        firmware.built(name=f"Firmware of {name} is built", board_type=name)
    for name in _names("gateway_types"):
        gateway_firmware.built(name=f"Firmware of gateway {name} is built", gateway_type=name)


def _names(key: str) -> list[str]:
    described = host.data.get(key, {})
    if not isinstance(described, Mapping):
        raise PyinfraError(f"{key}: expected a dictionary of {key.replace('_', ' ')}, found {described!r:.80}")
    return list(described)
