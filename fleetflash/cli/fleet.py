"""A whole inventory looked at through pyinfra's API, for commands that must run unattended.

pyinfra's own ``--dry -y`` never runs operation bodies, so it has no plan to show; this has.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
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

from fleetflash.boards import GROUPS
from fleetflash.facts import build_hosts
from fleetflash.facts.decision import decide, decide_rollback, transport
from fleetflash.facts.verification import verify
from fleetflash.incident.redaction import of_run
from fleetflash.link.errors import LinkError
from fleetflash.link.session import AgentSession
from fleetflash.plan import HostPlan, offline
from fleetflash.report.verification import VerificationReport


class FleetError(Exception):
    """The inventory can't be used. The message names the file and what is wrong."""


class _Offline(BaseStateCallback):
    """Remembers why hosts could not be reached."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def host_connect_error(self, state: Any, host: Any, error: Exception) -> None:
        self.reasons[host.name] = str(error)


@contextmanager
def connected_fleet(
    inventory_file: str, data: list[str], limit: list[str]
) -> Iterator[tuple[list[Any], dict[str, str]]]:
    """Yield the hosts of an inventory, connected where they can be, and why others are not; raises ``FleetError``."""
    state, hosts, unreachable = _connect(inventory_file, data, limit)
    try:
        yield hosts, unreachable.reasons
    finally:
        disconnect_all(state)


def plan_fleet(inventory_file: str, data: list[str], limit: list[str], back: bool = False) -> list[HostPlan]:
    """Return the plan of every Klipper host of an inventory, offline ones included; raises ``FleetError``.

    ``back``: the plan of a rollback.
    """
    state, hosts, unreachable = _connect(inventory_file, data, limit)
    try:
        jobs = {host.name: gevent.spawn(decide_rollback if back else decide, host) for host in hosts if host.connected}
        gevent.joinall(list(jobs.values()))
        plans = [
            jobs[host.name].get()
            if host.name in jobs
            else offline(host.name, unreachable.reasons.get(host.name, "SSH did not connect"))
            for host in hosts
        ]
        return [of_run(state).plan(plan) for plan in plans]
    finally:
        disconnect_all(state)


def verify_fleet(inventory_file: str, data: list[str], limit: list[str]) -> VerificationReport:
    """Return the checks of every host of an inventory, offline ones included; raises ``FleetError``."""
    state, hosts, unreachable = _connect(inventory_file, data, limit)
    report = VerificationReport(of_run(state), find=partial(build_hosts.find, state))
    try:
        jobs = {host.name: gevent.spawn(verify, host) for host in hosts if host.connected}
        gevent.joinall(list(jobs.values()))
        for host in hosts:
            if host.name in jobs:
                report.add(*jobs[host.name].get())
            else:
                report.unreachable(host.name, unreachable.reasons.get(host.name, "SSH did not connect"))
        return report
    finally:
        disconnect_all(state)


def clear_board(inventory_file: str, host: str, board: str) -> str:
    """Clear a board's call for attention and return it; raises ``FleetError`` or ``LinkError``."""
    state, hosts, unreachable = _connect(inventory_file, [], [host])
    try:
        target = hosts[0]
        if not target.connected:
            raise LinkError(f"{host}: {unreachable.reasons.get(host, 'SSH did not connect')}")
        with AgentSession(transport(target), host, ["run"], sudo=True) as session:
            session.send({"type": "clear", "board": board})
            answer = session.receive(30.0)
        if isinstance(answer, bytes) or answer["type"] != "cleared":
            raise LinkError(f"{host}: the agent did not clear {board}: {answer!r:.200}")
        return str(answer["detail"])
    finally:
        disconnect_all(state)


def _connect(inventory_file: str, data: list[str], limit: list[str]) -> tuple[State, list[Any], _Offline]:
    """Connect to the Klipper hosts of an inventory; those that can't be reached are remembered with the reason."""
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
    return state, hosts, unreachable


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
    group = {host.name for name in GROUPS for host in inventory.groups.get(name, [])}
    hosts = [host for host in inventory if host.name in group]
    if not limit:
        return hosts
    found = [host for host in hosts if host.name in limit or set(host.groups) & set(limit)]
    if not found:
        raise FleetError(f"no Klipper host, gateway or group is called {' or '.join(limit)}")
    return found
