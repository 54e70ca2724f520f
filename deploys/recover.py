"""Bring hosts to rest after an interruption, and nothing else: no board gets new firmware.

    pyinfra inventory/lab.py deploys/recover.py

A transaction that died is finished or its boards are restored, Klipper that it has stopped is started, guards and half
uploaded files are cleared away, and so is what builds and changes of hosts have left that died: toolchains, virtualenvs
and source trees that were not made to their end. What was found is said. A host on which nothing is left is left alone.
"""

from pyinfra import config, host

from fleetflash.boards import GROUPS
from roles.builder import builds_recovered
from roles.klipper_host import recovered

config.PARALLEL = 500

if set(GROUPS) & set(host.groups):
    recovered()
builds_recovered()
