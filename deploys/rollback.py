"""Bring every board of every host back, and hold it there.

    pyinfra inventory/lab.py deploys/rollback.py --data firmware_version='"v0.11.0"'
    pyinfra inventory/lab.py deploys/rollback.py --data to=previous --limit printer-1

``to`` is ``previous``, ``known-good`` or ``factory``. The same transaction as in deploys/flash.py, with another target:
guarded, restored on failure, and with policy ``exact`` the host code goes back with its boards. Until the pins say the
same, or ``fleetflash hold clear``, deploys/flash.py leaves these boards alone. A second run changes nothing.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from roles.klipper_host import rolled_back

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    rolled_back()
