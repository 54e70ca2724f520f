"""What every board of the farm runs, against what it should: read only, without sudo, offline hosts included.

pyinfra inventory/lab.py deploys/status.py -y
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from fleetflash.facts.decision import decide
from fleetflash.report import run as report

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    report.current(host.state).add_plan(decide(host))
