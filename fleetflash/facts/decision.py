"""What a host is, and so what is to be done with it: one snapshot, one plan."""

import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleetflash.acceptance.board_contracts import read_contracts
from fleetflash.agent.schema import API, BoardFacts, Firmware, Snapshot
from fleetflash.boards import PROGRAMMERS, Board, BoardDataError, KlipperHost, read_host
from fleetflash.facts.host_code import compared, wanted_code
from fleetflash.facts.pins import keeping
from fleetflash.facts.snapshot import snapshot
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.partition import Partition
from fleetflash.firmware.store import Store
from fleetflash.functional.version_api import VersionApiError, running_version
from fleetflash.incident.redaction import of_run
from fleetflash.link.errors import LinkError, UnreachableError
from fleetflash.link.tool import why_no_esptool
from fleetflash.plan import (
    Catalogue,
    HostPlan,
    Identity,
    WantedCode,
    board_goals,
    offline,
    plan_backup,
    plan_host,
    unusable,
)
from fleetflash.plan.erasure import KEY, NOTHING, read_erasure
from fleetflash.plan.rollback import Rollback, RollbackDataError, aimed, aimed_data, code_version, read_rollback


def decide(host: Any) -> HostPlan:
    """Look at a connected pyinfra host and decide; what keeps that from being done is a plan too."""
    return _decided(host, lambda: _plan(host, back=False))


def decide_rollback(host: Any) -> HostPlan:
    """As ``decide``, for where the data says that a rollback leads, instead of where the pins do."""
    return _decided(host, lambda: _plan(host, back=True))


def decide_backup(host: Any) -> HostPlan:
    """As ``decide``, for a backup of the host's boards. ``backup_reason`` in its data goes into the record."""
    return _decided(host, lambda: _plan_backup(host))


def _plan(host: Any, back: bool) -> HostPlan:
    data, override = host.data.dict(), host.state.inventory.get_override_data()
    if not back and "to" in override:
        # Whoever meant to go back must not be brought forward.
        raise RollbackDataError(f"to={override['to']} is for deploys/rollback.py and fleetflash plan --rollback")
    if back and KEY in override:
        raise BoardDataError(f"{KEY} is for deploys/flash.py; a rollback brings back what was there")
    desired = _read(host, aimed_data(data, override) if back else data)
    erasure = NOTHING if back else read_erasure(data, override, _boards_of_run(host) if KEY in override else ())
    # What a former firmware says when it boots is not for the contract of the one that is wanted.
    catalogue = _catalogue(() if back else desired.boards)
    cache = str(host.data.get("build_cache") or "")
    rollback = read_rollback(data, override) if back else None
    if rollback is not None:
        desired = aimed(desired, rollback)
    code = _wanted_code(host, desired, catalogue, rollback, cache)
    observed = _asked(desired, snapshot(transport(host), desired, code.commit if code else ""))
    code = compared(code, observed.checkout, cache) if code else None
    # What somebody typed for one run is no pin that a hold could have been waiting for.
    typed = override.keys() & {"firmware_version", "klipper_version"}
    return plan_host(
        desired, observed, catalogue, _identity(), code=code, rollback=rollback, lifts=not typed, erasure=erasure
    )


def _boards_of_run(host: Any) -> set[str]:
    """Return the names of all boards of the hosts that this run is for."""
    hosts = [other for other in host.state.inventory if host.state.is_host_in_limit(other)]
    described = [other.data.get("boards") for other in hosts]
    return {str(name) for boards in described if isinstance(boards, Mapping) for name in boards}


def _plan_backup(host: Any) -> HostPlan:
    if KEY in host.state.inventory.get_override_data():
        raise BoardDataError(f"{KEY} is for deploys/flash.py, which takes a backup first; a backup erases nothing")
    desired = dataclasses.replace(_read(host, host.data.dict()), code=None)
    catalogue = _catalogue()
    observed = snapshot(transport(host), desired)
    # It goes into records here and on the host.
    reason = of_run(host.state).text(str(host.data.get("backup_reason") or ""))
    return plan_backup(desired, observed, catalogue, _identity(), reason)


def _read(host: Any, data: Mapping[str, Any]) -> KlipperHost:
    desired = read_host(host.name, data)
    return dataclasses.replace(desired, retention=keeping(desired.retention, host))


def _asked(desired: KlipperHost, observed: Snapshot) -> Snapshot:
    """Ask gateways whose checks name a version API what they run, where the host could not."""
    boards = {board.name: board for board in desired.boards}

    def told(name: str, facts: BoardFacts) -> BoardFacts:
        board = boards.get(name)
        if board is None or facts.firmware.source != "unasked" or PROGRAMMERS[board.programmer].klipper:
            return facts
        try:
            version = running_version(desired.name, board)
        except VersionApiError as error:
            silent = dataclasses.replace(facts.firmware, error=f"its API does not say what it runs: {error}")
            return dataclasses.replace(facts, firmware=silent)
        return dataclasses.replace(facts, firmware=Firmware(API, version)) if version else facts

    return dataclasses.replace(observed, boards={name: told(name, facts) for name, facts in observed.boards.items()})


def _catalogue(judged: Sequence[Board] = ()) -> Catalogue:
    """``judged``: boards whose contracts are read."""
    store = Store()

    def partitions(artifact: Artifact) -> list[Partition]:
        # Half a second, and few runs need it.
        from fleetflash.firmware.esp_partitions import read_partitions

        return read_partitions(store.read_image(artifact), str(artifact))

    return Catalogue(store.find(), store.resolve, read_contracts(judged), partitions)


def _decided(host: Any, plan: Callable[[], HostPlan]) -> HostPlan:
    try:
        return plan()
    except (BoardDataError, RollbackDataError) as error:
        return unusable(host.name, str(error))
    except FirmwareError as error:
        return unusable(host.name, f"artifact store: {error}")
    except UnreachableError as error:
        return offline(host.name, str(error))
    except LinkError as error:
        return unusable(host.name, str(error))


def _wanted_code(
    host: Any, desired: KlipperHost, catalogue: Catalogue, rollback: Rollback | None, cache: str
) -> WantedCode | None:
    """Return what Klipper's own code shall be, ``None`` where it does not move with the boards.

    Where a rollback does not say it, it takes a look at the host: its past does, or else its boards.
    """
    code = desired.code
    if code is None:
        return None
    if rollback is not None and not rollback.klipper_version:
        observed = snapshot(transport(host), desired)
        version, problem = code_version(rollback, observed, board_goals(rollback, desired, observed, catalogue))
        if problem:
            return WantedCode(code.repository, problem=problem)
        code = dataclasses.replace(code, version=version)
    return wanted_code(code, cache)


def transport(host: Any) -> Any:
    """Return the paramiko transport of a connected pyinfra host; raises ``LinkError`` when it has none."""
    client = getattr(host.connector, "client", None)
    found = client.get_transport() if client else None
    if found is None:
        raise LinkError(f"{host.name}: not connected through SSH; fleetflash needs an SSH host")
    return found


def controller() -> str:
    """Return who works here, for records: ``user@computer``."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "unknown"
    return f"{user}@{socket.gethostname()}"


#: The same for every host of a run.
_why_no_esptool = functools.cache(why_no_esptool)


def _identity() -> Identity:
    return Identity(
        # Sorts by time, and differs between two controllers in the same second.
        transaction=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}",
        controller=controller(),
        esptool=_why_no_esptool(),
        now=round(time.time(), 3),
    )
