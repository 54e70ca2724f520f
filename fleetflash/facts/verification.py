"""What is, of a whole host, against what was declared: plan, snapshot and Moonraker, without sudo or changes."""

from collections.abc import Callable
from typing import Any

from fleetflash.agent.schema import EvidenceRequest, Snapshot
from fleetflash.boards import BoardDataError, read_host
from fleetflash.facts.decision import decide, transport
from fleetflash.facts.evidence import evidence
from fleetflash.facts.gateway_checks import check_gateways
from fleetflash.facts.snapshot import snapshot
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.functional.can_capture import Capture
from fleetflash.link.errors import LinkError
from fleetflash.plan import Action, HostPlan
from fleetflash.verification.check import Check, Result
from fleetflash.verification.host_checks import check_host

DEFAULT_MOONRAKER = 7125


def verify(
    host: Any, keep: Callable[[str, Capture], None] = lambda _board, _capture: None
) -> tuple[list[Check], list[Artifact]]:
    """Look at a connected pyinfra host; return its checks, and the artifacts that its boards are pinned to.

    Whatever keeps it from being looked at is a check that failed.

    + keep: takes the CAN frames of a gateway that were judged, with the board's name
    """
    plan = decide(host)
    try:
        observed, moonraker = _look(host, plan)
    except BoardDataError as error:
        return [Check(host.name, "-", "inventory", "readable", "a mistake", Result.FAILED, str(error))], []
    store, images, pinned = Store(), {}, []
    for board in plan.boards:
        if board.wanted is not None:
            pinned.append(board.wanted)
            try:
                store.read_image(board.wanted)
            except FirmwareError as error:
                images[board.name] = str(error)
    checks = check_host(plan, observed, moonraker, images)
    return checks + check_gateways(host, read_host(host.name, host.data.dict()).boards, keep), pinned


def moonraker_port(host: Any) -> int:
    """Return the port of a host's Moonraker, ``moonraker_port`` in its data; 0: there is none to be asked.

    Raises ``BoardDataError``.
    """
    if not host.data.get("klipper_service", "klipper.service"):
        return 0
    port = host.data.get("moonraker_port", DEFAULT_MOONRAKER)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
        raise BoardDataError(f"moonraker_port: expected a port up to 65535, or 0 for none, found {port!r:.40}")
    return port


def _look(host: Any, plan: HostPlan) -> tuple[Snapshot | None, dict[str, str]]:
    if plan.actions(Action.OFFLINE):
        return None, {}
    request = EvidenceRequest(logs=False, moonraker=moonraker_port(host))
    desired = read_host(host.name, host.data.dict())
    try:
        observed = snapshot(transport(host), desired)
        if not request.moonraker:
            return observed, {}
        return observed, evidence(transport(host), host.name, request, sudo=False).moonraker
    except LinkError:
        return None, {}  # the plan says the same
