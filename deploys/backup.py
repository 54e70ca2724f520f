"""Take a backup of what every board runs, now: read where the board can be read, and nothing is written.

    pyinfra inventory/lab.py deploys/backup.py --data backup_reason="before the new hotend"

Per host: Klipper is stopped once, each board is read twice and compared, Klipper is started, the boards are asked what
they run. The copies lie on the host and here: fleetflash backup list.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from roles.klipper_host import backed_up

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    backed_up()
