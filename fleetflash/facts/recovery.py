"""What is: what a transaction that died has left on a host, seen without root and without changing anything."""

from typing import Any

from fleetflash.agent.schema import SnapshotRequest
from fleetflash.facts.decision import transport
from fleetflash.facts.snapshot import take


def leftovers(host: Any) -> list[str]:
    """Return one line for each, e.g. ``["transaction 20261121T…: was interrupted after the step writing of bmcu"]``.

    Raises ``LinkError`` when the host can't be asked.
    """
    return take(transport(host), host.name, SnapshotRequest([], service="")).leftovers
