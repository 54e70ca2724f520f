"""The computer that builds firmware: this one."""

from collections.abc import Mapping

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from fleetflash.operations import firmware


@deploy("Builder")
def builder() -> None:
    """Build the firmware of every board type that is not built yet. Toolchains are fetched when a build needs them."""
    board_types = host.data.get("board_types", {})
    if not isinstance(board_types, Mapping):
        raise PyinfraError(f"board_types: expected a dictionary of board types, found {board_types!r:.80}")
    for name in board_types:
        firmware.built(name=f"Firmware of {name} is built", board_type=name)
