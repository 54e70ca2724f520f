"""The computers that build firmware: this one, or hosts that do it for it."""

from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from fleetflash.build.spread import share
from fleetflash.operations import firmware, gateway_firmware


@deploy("Builder")
def builder() -> None:
    """
    Build the firmware of every board and gateway type that is not built yet, with toolchains as they are pinned.

    The board types are spread over all hosts of the group ``builders``, and these work at the same time; gateways are
    built on the controller.
    """
    builders = _builders()
    for name in share(_names("board_types"), builders, host.name):
        firmware.built(name=f"Firmware of {name} is built", board_type=name)
    # Without the controller among them, one of them says that it is needed.
    here = [name for name in builders if name == "@local"] or sorted(builders)[:1]
    for name in _names("gateway_types") if host.name in here else ():
        gateway_firmware.built(name=f"Firmware of gateway {name} is built", gateway_type=name)


def _builders() -> list[str]:
    """Return the hosts that build in this run: an unreachable one's types fall to the others."""
    state = host.state
    group = state.inventory.get_group("builders")
    return [each.name for each in group if each in state.active_hosts and state.is_host_in_limit(each)]


def _names(key: str) -> list[str]:
    described = host.data.get(key, {})
    if not isinstance(described, Mapping):
        raise PyinfraError(f"{key}: expected a dictionary of {key.replace('_', ' ')}, found {described!r:.80}")
    return list(described)
