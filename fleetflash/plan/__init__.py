"""What has to be done: desired state × observed state → a decision per board and one transaction per host.

Everything that decides is here, and nothing here does I/O: a plan can be tested, printed and thrown away.

- ``model``: what goes in and comes out; ``printer``: what the printer is doing
- ``host``: where planning begins; it asks ``board`` for each board and ``host_code`` for Klipper's own code, then
  ``host_check``, ``policy`` and ``hold`` for what forbids it, and ``transaction`` for what is sent to the agent
- ``board`` asks ``observation``, ``board_check``, ``image``, ``erasure``, ``way_back`` and ``placement``
- ``backup`` plans transactions that only read; ``rollback`` says where boards go back to
"""

from fleetflash.plan.backup import plan_backup
from fleetflash.plan.host import board_goals, plan_host
from fleetflash.plan.model import (
    Action,
    BoardPlan,
    Catalogue,
    HostPlan,
    Identity,
    WantedCode,
    hold_back,
    offline,
    unusable,
)
from fleetflash.plan.printer import Printer, printer_state

__all__ = [
    "Action",
    "BoardPlan",
    "Catalogue",
    "HostPlan",
    "Identity",
    "Printer",
    "WantedCode",
    "board_goals",
    "hold_back",
    "offline",
    "plan_backup",
    "plan_host",
    "printer_state",
    "unusable",
]
