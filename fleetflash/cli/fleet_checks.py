"""The functional checks of a whole inventory's gateways, through pyinfra's API."""

# First: it loads pyinfra in the order that gevent needs.
from fleetflash.cli.fleet import FleetError as FleetError, connected_fleet  # isort: skip

from typing import Any

import gevent

from fleetflash.boards import Board, BoardDataError, read_host
from fleetflash.facts.gateway_checks import check_gateways
from fleetflash.functional.can_capture import Capture
from fleetflash.incident.redaction import of_run
from fleetflash.report.verification import VerificationReport
from fleetflash.verification.check import Check, Result


def check_fleet(
    inventory_file: str, data: list[str], gateway: str | None
) -> tuple[VerificationReport, dict[tuple[str, str], Capture]]:
    """Check the gateways that have checks, and return the rows and each one's frames; raises ``FleetError``.

    + gateway: only that one, ``BOARD``, ``HOST`` or ``HOST/BOARD``
    """
    captures: dict[tuple[str, str], Capture] = {}
    of_host, slash, _ = (gateway or "").partition("/")
    with connected_fleet(inventory_file, data, [of_host] if slash else []) as (hosts, _):
        if not hosts:
            raise FleetError(f"{inventory_file}: it has no Klipper host and no gateway")
        chosen = {host.name: _chosen(host, gateway) for host in hosts}
        if not any(chosen.values()):
            what = f"no gateway called {gateway} with checks" if gateway else "no gateway with checks"
            raise FleetError(f"{inventory_file}: {what}; see docs/gateway-checks.md")
        report = VerificationReport(of_run(hosts[0].state), rebuilds=False)
        jobs = [gevent.spawn(_check, host, chosen[host.name], captures) for host in hosts if chosen[host.name]]
        gevent.joinall(jobs)
        for job in jobs:
            report.add(job.get(), [])
    return report, captures


def _chosen(host: Any, gateway: str | None) -> list[Board | Check]:
    """Return a host's gateways that have checks; what can't be read is a row already."""
    try:
        desired = read_host(host.name, host.data.dict())
    except BoardDataError as error:
        rows: list[Board | Check] = [_mistake(host.name, "-", str(error))]
        return rows if gateway in (None, host.name) else []
    found: list[Board | Check] = [board for board in desired.boards if board.checks]
    found += [_mistake(host.name, name, error) for name, error in desired.errors]
    if gateway in (None, host.name):
        return found
    names = [each.name if isinstance(each, Board) else each.board for each in found]
    return [each for each, name in zip(found, names, strict=True) if gateway in (name, f"{host.name}/{name}")]


def _check(host: Any, chosen: list[Board | Check], captures: dict[tuple[str, str], Capture]) -> list[Check]:
    def keep(board: str, capture: Capture) -> None:
        captures[host.name, board] = capture

    rows = [each for each in chosen if isinstance(each, Check)]
    return rows + check_gateways(host, [each for each in chosen if isinstance(each, Board)], keep)


def _mistake(host: str, board: str, error: str) -> Check:
    return Check(host, board, "inventory", "readable", "a mistake", Result.FAILED, error)
