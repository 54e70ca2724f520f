"""The tools on hosts whose boards the agent does not flash by itself."""

from pyinfra import host
from pyinfra.api import deploy

from fleetflash.boards import BoardDataError, read_host
from fleetflash.facts.installation import needs_sudo
from fleetflash.host_state import HostStateError, read_flash_tools
from fleetflash.operations import debian, klipper, tools

#: The programmers whose library lies in the tool virtualenv.
PROGRAMMERS = ("esptool",)


@deploy("Flash tools")
def flash_tools() -> None:
    """Bring esptool, as ``flash_tools`` in the data says, to a host that has boards for it."""
    data = host.data.dict()
    try:
        environment = read_flash_tools(data)
        boards = read_host(host.name, data).boards
    except HostStateError as error:
        # Raised here, it would end the run for all hosts.
        klipper.refused(name="The host's data is right", reason=str(error))
        return
    except BoardDataError:
        return  # the plan of its boards says so
    if environment is None or not any(board.programmer in PROGRAMMERS for board in boards):
        return
    debian.packages(name="Virtualenvs can be made", packages=["python3-venv"], _sudo=needs_sudo(host))
    tools.present(name="esptool is in the tool virtualenv", environment=environment)
