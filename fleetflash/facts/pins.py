"""What the inventory pins, whatever was typed for one run: no backup of it may go."""

from dataclasses import replace
from typing import Any

from fleetflash.agent.schema import Retention
from fleetflash.pins import named_by


def keeping(retention: Retention, host: Any) -> Retention:
    """Return a retention that keeps what a pyinfra host's data names anywhere, also where other data prevails."""
    inventory = host.state.inventory
    groups = (inventory.get_group_data(group) for group in host.groups)
    places = [inventory.get_override_data(), inventory.get_host_data(host.name), *groups, inventory.get_data()]
    return replace(retention, pins=sorted({*retention.pins, *(pin for data in places for pin in named_by(data))}))
