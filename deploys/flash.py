"""Bring every board of every host to its pinned firmware.

    pyinfra inventory/lab.py deploys/flash.py

Per host: look (one snapshot) → decide (flash, nothing, or refuse and say why) → one guarded transaction: stop Klipper,
write and verify each board, start Klipper, ask the boards what they run; on any failure everything goes back.
A second run changes nothing.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from roles.klipper_host import klipper_host

config.PARALLEL = 500  # a slow flash must not queue the rest of the fleet

if set(GROUPS) & set(host.groups):
    klipper_host()
