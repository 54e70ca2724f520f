"""Bring hosts to rest after an interruption, and nothing else: no board gets new firmware.

    pyinfra inventory/lab.py deploys/recover.py

A transaction that died is finished or its boards are restored, Klipper that it has stopped is started, guards and half
uploaded files are cleared away, and so is what builds that died have left, here and on the group builders. What was
found is said. A host on which nothing is unfinished is left alone.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from roles.builder import builds_recovered
from roles.klipper_host import recovered

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    recovered()
builds_recovered()
