"""What is kept of what was done: a line for every transaction, and a bundle of evidence for those that failed."""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from pyinfra import logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.agent.schema import Evidence, EvidenceRequest
from fleetflash.boards import BoardDataError, KlipperHost, read_host
from fleetflash.build.builds import Build, Builds
from fleetflash.build.location import cache_directory
from fleetflash.facts.decision import controller, decide, transport
from fleetflash.facts.evidence import evidence
from fleetflash.facts.verification import DEFAULT_MOONRAKER, moonraker_port
from fleetflash.firmware.store import Store
from fleetflash.firmware.symbols import SymbolFiles
from fleetflash.incident import bundle
from fleetflash.incident.archive import Archive, IncidentError
from fleetflash.incident.bundle import Occasion
from fleetflash.incident.incident import FAILURES, Incident
from fleetflash.incident.redaction import of_run
from fleetflash.link.errors import LinkError
from fleetflash.plan import HostPlan
from fleetflash.report import run as report


@operation(is_idempotent=False)
def collected(why: str = "") -> Generator[FunctionCommand, None, None]:
    """
    Gather what a host can tell into a bundle on this computer: logs, versions, its newest transaction. Changes nothing.

    + why: kept with it

    **Example:**

    .. code:: python

        incident.collected(name="Evidence is collected", why="the display flickers")
    """
    yield FunctionCommand(_collect, (why,), {})


def _collect(state: Any, host: Any, why: str) -> bool:
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
    plan = decide(host)
    kept = _keep(host, plan, Occasion(host.name, name, controller(), why or _why(host), {}), "")
    if kept is not None:
        logger.info(f"{host.print_prefix}{Archive().path(kept)}")
    return kept is not None


def record(
    target: Any,
    transaction: str,
    outcome: Mapping[str, Any],
    plan: HostPlan | None = None,
    events: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Keep how a transaction of a pyinfra host has ended; with a bundle when it failed. Never raises.

    + plan: ``None`` for one that another run has started
    + events: what this run has seen of it
    """
    try:
        occasion = Occasion(target.name, transaction, controller(), _why(target), outcome, events)
        if outcome.get("outcome") in FAILURES:
            kept = _keep(target, plan, occasion, transaction)
            if kept is not None:
                report.current(target.state).add_incident(kept)
        else:
            found, _ = bundle.make(occasion, plan, None, _builds(target), SymbolFiles.of(Store()), of_run(target.state))
            Archive().record(found)
    except Exception as error:  # the board's outcome must not depend on what is written about it
        logger.warning(f"{target.print_prefix}the record could not be kept: {error}")
        logger.debug(f"{target.print_prefix}{error!r}", exc_info=True)


def _keep(target: Any, plan: HostPlan | None, occasion: Occasion, transaction: str) -> Incident | None:
    found: Evidence | None = None
    try:
        found = evidence(transport(target), target.name, _request(target, transaction))
    except LinkError as error:
        logger.warning(f"{target.print_prefix}without the host's own evidence: {error}")
        occasion = Occasion(**{**vars(occasion), "problem": f"the host could not be asked for evidence: {error}"})
    incident, files = bundle.make(occasion, plan, found, _builds(target), SymbolFiles.of(Store()), of_run(target.state))
    try:
        Archive().keep(incident, files)
    except IncidentError as error:
        logger.error(f"{target.print_prefix}the evidence could not be kept: {error}")
        return None
    return incident


def _request(target: Any, transaction: str) -> EvidenceRequest:
    desired = _desired(target)
    return EvidenceRequest(
        transaction=transaction,
        service=desired.service,
        socket=desired.socket,
        ports=[board.port for board in desired.boards],
        moonraker=_moonraker(target),
    )


def _moonraker(target: Any) -> int:
    try:
        return moonraker_port(target)
    except BoardDataError:
        return DEFAULT_MOONRAKER


def _desired(target: Any) -> KlipperHost:
    """A host whose data is malformed has evidence, too."""
    try:
        return read_host(target.name, target.data.dict())
    except BoardDataError:
        return KlipperHost(target.name, ())


def _why(target: Any) -> str:
    return str(target.data.get("reason") or "the pinned firmware was wanted")


def _builds(target: Any) -> Builds[Build]:
    return Builds(cache_directory(target.data.get("build_cache", "")) / "builds", Build)
