"""The holds of a whole inventory, through pyinfra's API."""

# First: it loads pyinfra in the order that gevent needs.
from fleetflash.cli.fleet import connected_fleet  # isort: skip

from typing import Any

import gevent

from fleetflash.agent.schema import Hold, SnapshotRequest
from fleetflash.facts.decision import transport
from fleetflash.facts.snapshot import take
from fleetflash.link import hold
from fleetflash.link.errors import LinkError


def list_holds(inventory_file: str, limit: list[str]) -> tuple[dict[str, dict[str, Hold]], list[str]]:
    """Return host → board → what holds it, and a line for each host that can't be asked; raises ``FleetError``."""
    with connected_fleet(inventory_file, [], limit) as (hosts, reasons):
        jobs = {host.name: gevent.spawn(_of, host) for host in hosts if host.connected}
        gevent.joinall(list(jobs.values()))
        answers = {name: job.get() for name, job in jobs.items()}
        absent = [f"{host.name}: {_why(reasons, host.name)}" for host in hosts if host.name not in jobs]
    found = {name: answer for name, answer in answers.items() if not isinstance(answer, str)}
    return found, absent + [answer for answer in answers.values() if isinstance(answer, str)]


def clear_holds(inventory_file: str, host: str, board: str | None) -> dict[str, Hold]:
    """Let a board of a host go, or all of them, and return what held them; raises ``FleetError`` or ``LinkError``."""
    with connected_fleet(inventory_file, [], [host]) as (hosts, reasons):
        lifted: dict[str, Hold] = {}
        for target in hosts:
            if not target.connected:
                raise LinkError(f"{target.name}: {_why(reasons, target.name)}")
            lifted.update(hold.lift(transport(target), target.name, [board] if board else []))
        return lifted


def _of(host: Any) -> dict[str, Hold] | str:
    try:
        return take(transport(host), host.name, SnapshotRequest([], service="")).holds
    except LinkError as error:
        return str(error)


def _why(reasons: dict[str, str], host: str) -> str:
    return reasons.get(host, "SSH did not connect")
