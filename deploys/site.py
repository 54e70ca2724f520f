"""Everything: from bare Debian hosts with SSH to printers that are ready, with boards that run their pinned firmware.

    pyinfra inventory/farm.py deploys/site.py

Firmware is built (by the group builders), then hosts get what Klipper runs from (``klipper`` in their
data), then their boards are flashed. A second run changes nothing and restarts nothing; a run that was killed is
finished by the next one. A printer that prints keeps what it runs until it is idle.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from fleetflash.incident.redaction import of_run
from roles.builder import builder
from roles.flash_tools import flash_tools
from roles.klipper_host import klipper_host
from roles.klipper_host.installation import klipper_installation

config.PARALLEL = 500

of_run(host.state)  # before anything is logged: from here on, nothing secret is
if "builders" in host.groups:
    builder()
if set(GROUPS) & set(host.groups):
    klipper_installation()
    flash_tools()
    klipper_host()
