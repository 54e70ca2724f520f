"""The computers that build firmware: this one, or hosts that do it for it."""

from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from fleetflash.facts import build_hosts
from fleetflash.operations import firmware, recovery
from roles.gateway import gateway_builds


@deploy("Builder")
def builder() -> None:
    """
    Build the firmware of every board and gateway type that is not built yet, with toolchains as they are pinned.

    The board types are spread over the hosts of the group ``builders`` that have their toolchain, and these work at the
    same time; gateways are built on the controller.
    """
    builders = [each.name for each in build_hosts.present(host.state)]
    falls_to = build_hosts.assignment(host.state)
    for name in _names("board_types"):
        if falls_to.get(name) == host.name:
            firmware.built(name=f"Firmware of {name} is built", board_type=name)
    # Without the controller among them, one of them says that it is needed.
    if host.name == (build_hosts.LOCAL if build_hosts.LOCAL in builders else min(builders)):
        gateway_builds(_names("gateway_types"))


@deploy("Leftovers of builds")
def builds_recovered() -> None:
    """Remove what builds that died have left: on the hosts of the group ``builders``, and on this computer."""
    if build_hosts.GROUP in host.groups and host.name != build_hosts.LOCAL:
        recovery.swept(name="Nothing is left of builds")
    run = [each.name for each in host.state.active_hosts if host.state.is_host_in_limit(each)]
    if host.name == (build_hosts.LOCAL if build_hosts.LOCAL in run else min(run)):
        recovery.swept(name="Nothing is left of builds on this computer", here=True)


def _names(key: str) -> list[str]:
    described = host.data.get(key, {})
    if not isinstance(described, Mapping):
        raise PyinfraError(f"{key}: expected a dictionary of {key.replace('_', ' ')}, found {described!r:.80}")
    return list(described)
