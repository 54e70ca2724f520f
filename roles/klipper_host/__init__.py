"""A Klipper host and the boards that hang off it."""

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from fleetflash.boards import BoardDataError, read_duration
from fleetflash.operations import mcu
from fleetflash.plan.rollback import RollbackDataError, read_rollback
from fleetflash.rollout import canary


@deploy("Klipper host")
def klipper_host() -> None:
    """Bring every board of this host to its pinned firmware. All of the host's boards are one transaction."""
    _check_rollout_data()
    if host.data.get("canary", 0):
        mcu.firmware(name="Canaries run their pinned firmware", canaries=True)
    mcu.firmware(name="Boards run their pinned firmware")


@deploy("Rollback")
def rolled_back() -> None:
    """Bring every board of this host back to where the data says, in one transaction, and hold it there."""
    _check_rollout_data()
    try:
        read_rollback(host.data.dict(), host.state.inventory.get_override_data())
    except RollbackDataError as error:
        raise PyinfraError(str(error)) from None
    if host.data.get("canary", 0):
        mcu.firmware(name="Canaries are back", canaries=True, back=True)
    mcu.firmware(name="Boards are back", back=True)


@deploy("Recovery")
def recovered() -> None:
    """Bring what was interrupted on this host to rest."""
    from fleetflash.operations import recovery  # it looks after builds, too, which other deploys need not know

    recovery.settled(name="Nothing is left unfinished")
    recovery.provisioning_swept(name="Nothing is left of changes that died")


@deploy("Backup")
def backed_up() -> None:
    """Take a backup of every board of this host that can be read, in one transaction that writes none."""
    _check_rollout_data()
    mcu.backed_up(name="What the boards run is kept")


def _check_rollout_data() -> None:
    """What concerns the whole rollout ends the run before anything is touched."""
    try:
        canary.read_count(host.data.get("canary", 0))
        canary.read_percent(host.data.get("max_failed_percent", 0))
        read_duration(host.data.get("wait_idle", 0))
    except canary.CanaryDataError as error:
        raise PyinfraError(f"--data {error}") from None
    except BoardDataError as error:
        raise PyinfraError(f"--data wait_idle: {error}") from None
