"""A whole inventory looked at through pyinfra's API, for commands that must run unattended.

pyinfra's own ``--dry -y`` never runs operation bodies, so it has no plan to show; this has.
"""

import logging
import sys
from pathlib import Path
from typing import Any

# gevent must patch the standard library before anything else uses its sockets; importing pyinfra_cli does that.
import pyinfra_cli  # isort: skip  # noqa: F401
import gevent
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory
from pyinfra_cli.util import parse_cli_arg

from fleetflash.facts.decision import decide
from fleetflash.plan import HostPlan, offline

GROUP = "klipper_hosts"


class FleetError(Exception):
    """The inventory can't be used. The message names the file and what is wrong."""


class _Offline(BaseStateCallback):
    """Remembers why hosts could not be reached."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def host_connect_error(self, state: Any, host: Any, error: Exception) -> None:
        self.reasons[host.name] = str(error)


def plan_fleet(inventory_file: str, data: list[str], limit: list[str]) -> list[HostPlan]:
    """Return the plan of every Klipper host of an inventory, offline ones included; raises ``FleetError``."""
    logging.getLogger("pyinfra").addHandler(logging.NullHandler())
    state = State()
    state.cwd = str(Path.cwd())
    ctx_state.set(state)  # inventory and group data files are executed in its context
    inventory = _read_inventory(inventory_file, data)
    hosts = _limited(inventory, limit)
    state.init(inventory, Config(PARALLEL=max(1, len(hosts))), initial_limit=hosts)
    unreachable = _Offline()
    state.add_callback_handler(unreachable)
    state.set_stage(StateStage.Connect)
    try:
        connect_all(state)
    except PyinfraError:
        pass  # no host answered: each appears as offline
    state.set_stage(StateStage.Prepare)
    try:
        jobs = {host.name: gevent.spawn(decide, host) for host in hosts if host.connected}
        gevent.joinall(list(jobs.values()))
        return [
            jobs[host.name].get()
            if host.name in jobs
            else offline(host.name, unreachable.reasons.get(host.name, "SSH did not connect"))
            for host in hosts
        ]
    finally:
        disconnect_all(state)


def _read_inventory(inventory_file: str, data: list[str]) -> Inventory:
    if not Path(inventory_file).is_file():
        raise FleetError(f"{inventory_file}: no such inventory file; try inventory/lab.py")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    override = {}
    for item in data:
        key, separator, value = item.partition("=")
        if not separator:
            raise FleetError(f"--data {item}: expected KEY=VALUE")
        override[key] = parse_cli_arg(value)
    try:
        return make_inventory(inventory_file, override_data=override, cwd=str(Path.cwd()))
    except Exception as error:  # an inventory is a user's Python file: it can raise anything
        raise FleetError(f"{inventory_file}: {type(error).__name__}: {error}") from error


def _limited(inventory: Inventory, limit: list[str]) -> list[Any]:
    group = {host.name for host in inventory.groups.get(GROUP, [])}
    hosts = [host for host in inventory if host.name in group]
    if not limit:
        return hosts
    found = [host for host in hosts if host.name in limit or set(host.groups) & set(limit)]
    if not found:
        raise FleetError(f"no Klipper host or group is called {' or '.join(limit)}")
    return found
