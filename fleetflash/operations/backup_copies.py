"""The controller's copies of what a host has kept of its boards: made after a transaction, over the same session."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

from pyinfra import logger

from fleetflash.agent.schema import Backup, Retention
from fleetflash.boards import GROUPS, BoardDataError, read_host
from fleetflash.facts.pins import keeping
from fleetflash.firmware.backup_store import BackupStore, Kept
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.link.backups import BackupAbsentError, BackupClient
from fleetflash.link.errors import LinkError
from fleetflash.link.transaction import Session
from fleetflash.plan import HostPlan

#: The pins of each run's inventory; the state is kept, too, so that no other gets its id.
_pins: dict[int, tuple[Any, list[str]]] = {}


def copy_backups(session: Session, host: Any, plan: HostPlan) -> str:
    """Copy the backups of the plan's boards that are not here yet, and let old ones go; return what went wrong.

    ``session``: its transaction is over. Whatever is not copied now is copied after the host's next transaction, so
    this fails nobody.
    """
    client, store = BackupClient(session, host.name), BackupStore()
    known = Store()

    def read(backup: Backup) -> bytes:
        artifact = plan.artifacts.get(backup.image.sha256)
        return known.read_image(artifact) if artifact else client.image(backup)

    try:
        problems = []
        for backup in client.records(board.board.name for board in plan.boards if board.board):
            try:
                store.add(Kept(host.name, backup), partial(read, backup))
            except (BackupAbsentError, FirmwareError) as error:
                problems.append(str(error))
        if not problems:  # the newest of a board may be what is missing
            held = plan.transaction.retention.pins if plan.transaction else []
            retention = _retention(host)
            store.retain(host.name, replace(retention, pins=[*retention.pins, *held]), time.time())
    except (LinkError, FirmwareError) as error:
        problems = [str(error)]
    problem = f"backups are on the host, and not all here: {'; '.join(problems)}" if problems else ""
    if problem:
        logger.warning(f"{host.print_prefix}{problem}")
    return problem


def _retention(host: Any) -> Retention:
    """Return a host's retention, with the pins of the whole inventory."""
    state = host.state
    if id(state) not in _pins:
        found: set[str] = set()
        for other in state.inventory:
            if set(GROUPS) & set(other.groups):
                found.update(_retention_of(other).pins)
        _pins[id(state)] = state, sorted(found)
    return replace(_retention_of(host), pins=_pins[id(state)][1])


def _retention_of(host: Any) -> Retention:
    try:
        found = read_host(host.name, host.data.dict()).retention
    except BoardDataError:
        found = Retention()  # the plan of its boards says so
    return keeping(found, host)
