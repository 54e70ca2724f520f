"""Before production: is everything as it was declared? Read only, without sudo; exit code 0 only when it is.

    pyinfra inventory/lab.py deploys/verify.py -y

Per host: SSH, sudo, klippy, Moonraker; per board: port, image, running version against the pin, and what a flash would
do; then every pinned image that was built is built once more. For cron: fleetflash verify INVENTORY --json.
"""

from functools import partial

from pyinfra import config, host

from fleetflash.boards import GROUPS
from fleetflash.facts import build_hosts
from fleetflash.facts.verification import verify
from fleetflash.report import verification

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    verification.current(host.state, partial(build_hosts.find, host.state)).add(*verify(host))
