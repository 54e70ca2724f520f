"""What is: one snapshot of a Klipper host, taken by the agent in one SSH exec and without changing anything.

It isn't a pyinfra ``FactBase``: those turn a failure into their default and go on, and a flash that was decided on a
default is a disaster. Here a host that can't be asked is an answer of its own.
"""

from typing import TYPE_CHECKING

from fleetflash.agent.schema import CheckoutProbe, Probe, SchemaError, Snapshot, SnapshotRequest, from_json, to_json
from fleetflash.boards import PROGRAMMERS, KlipperHost
from fleetflash.link.errors import LinkError
from fleetflash.link.session import AgentSession

if TYPE_CHECKING:
    import paramiko

#: klippy may take its time to answer, and ports to be identified, in seconds.
SNAPSHOT_SECONDS = 60.0


def snapshot(transport: "paramiko.Transport", desired: KlipperHost, commit: str = "") -> Snapshot:
    """Look at a host and the boards that it should have; raises ``LinkError`` when it can't be asked.

    ``commit``: where Klipper's own code shall be, if that moves with the boards.
    """
    probes = []
    for board in desired.boards:
        can = PROGRAMMERS[board.programmer]
        asked = (board.name, board.port, board.klippy_mcu, board.baud)
        probes.append(Probe(*asked, can.quiet, can.moves, can.klipper, can.connection))
    checkout = CheckoutProbe(desired.code.path, commit) if desired.code else None
    return take(transport, desired.name, SnapshotRequest(probes, desired.service, desired.socket, checkout))


def take(transport: "paramiko.Transport", host: str, request: SnapshotRequest) -> Snapshot:
    """Have the agent answer ``request``; raises ``LinkError`` in one line that names the host."""
    with AgentSession(transport, host, ["snapshot"]) as session:
        session.send({"type": "snapshot", "request": to_json(request)})
        message = session.receive(SNAPSHOT_SECONDS)
    if isinstance(message, bytes) or message["type"] != "snapshot":
        raise LinkError(f"{host}: the agent answered something else than a snapshot: {message!r:.80}")
    try:
        return from_json(Snapshot, message["snapshot"])
    except SchemaError as error:
        raise LinkError(f"{host}: the agent's snapshot makes no sense: {error}") from None
