"""A Klipper host and the boards that hang off it."""

from pyinfra.api import deploy

from fleetflash.operations import mcu


@deploy("Klipper host")
def klipper_host() -> None:
    """Bring every board of this host to its pinned firmware. All of the host's boards are one transaction."""
    mcu.firmware(name="Boards run their pinned firmware")
