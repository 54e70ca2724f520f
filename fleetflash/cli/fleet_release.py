"""A gateway of an inventory, looked at for its release, through pyinfra's API."""

# First: it loads pyinfra in the order that gevent needs.
from fleetflash.cli.fleet import FleetError as FleetError, connected_fleet  # isort: skip

from pathlib import Path
from typing import Any

from fleetflash.boards import Board, BoardDataError, read_host
from fleetflash.build.location import cache_directory
from fleetflash.facts.decision import controller as controller
from fleetflash.facts.verification import verify
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.functional.can_capture import Capture
from fleetflash.incident.redaction import of_run
from fleetflash.release.making import Candidate
from fleetflash.release.release import ReleaseError
from fleetflash.report.verification import VerificationReport


def look(inventory_file: str, data: list[str], gateway: str) -> tuple[Candidate, Path]:
    """Return a gateway as it is now, and where its build is; raises ``FleetError`` or ``ReleaseError``.

    + gateway: ``HOST/BOARD``, or ``BOARD`` where only one host has it
    """
    name, _, of_host = reversed(gateway.rpartition("/"))
    with connected_fleet(inventory_file, data, [of_host] if of_host else []) as (hosts, reasons):
        host, board = _the_one(hosts, name, gateway)
        if not host.connected:
            raise ReleaseError(f"{host.name}: {reasons.get(host.name, 'SSH did not connect')}")
        captures: dict[str, Capture] = {}
        rows, _ = verify(host, captures.__setitem__)
        report = VerificationReport(of_run(host.state), [row for row in rows if row.board in ("-", name)])
        try:
            artifact = Store().resolve(board.firmware, board.firmware_version, board.chip)
        except FirmwareError as error:
            raise ReleaseError(f"{host.name}/{name}: {error}") from None
        cache = cache_directory(host.data.get("build_cache"))
        return Candidate(host.name, board, artifact, report.clean(), captures.get(name)), cache


def _the_one(hosts: list[Any], name: str, gateway: str) -> tuple[Any, Board]:
    found = []
    for host in hosts:
        try:
            desired = read_host(host.name, host.data.dict())
        except BoardDataError as error:
            raise ReleaseError(f"{host.name}: {error}") from None
        if name in dict(desired.errors):
            raise ReleaseError(f"{host.name}/{name}: {dict(desired.errors)[name]}")
        found += [(host, board) for board in desired.boards if board.name == name]
    if not found:
        raise ReleaseError(f"the inventory has no board {gateway}; give HOST/BOARD")
    if len(found) > 1:
        raise ReleaseError(f"{name} is at {' and at '.join(host.name for host, _ in found)}; give HOST/BOARD")
    (only,) = found
    return only
