"""A port lent to the controller for one board: placement ``controller``.

The board is in its bootloader and its identity is checked; the journal says that it is being written. Now the agent
offers the open port on a unix socket, the follower that holds the SSH session carries the frames, and the controller
erases, programs and verifies. When the session is lost, so is the lease, and the transaction restores the board itself.
"""

import os
import socket
from typing import TYPE_CHECKING, Any, Dict, Optional

from fleetflash.agent import serve
from fleetflash.agent.events import EventWriter
from fleetflash.agent.guard import RUN
from fleetflash.agent.schema import Image

if TYPE_CHECKING:
    from fleetflash.agent.board import Session

#: The controller gets this long to take the port, in seconds.
ACCEPT_SECONDS = 15.0
#: A controller that says nothing for this long, in seconds, has lost its link: meanwhile the printer stands still.
SILENCE = 20.0


class LeaseError(Exception):
    """The controller did not take the port, lost it, or reported a failure."""


class OutOfReachError(LeaseError):
    """Only a controller can write this board, and there is none any more."""


def lend_port(session: "Session", transaction_id: str, image: Image, events: EventWriter) -> None:
    """Offer the port and wait until the controller has written and verified ``image`` through it."""
    name = session.board.name
    connection = offer(transaction_id, events, {"step": "port-offered", "board": name, "sha256": image.sha256})
    if connection is None:
        raise LeaseError(f"{name}: no controller took the port within {ACCEPT_SECONDS:g} s")
    with connection:
        descriptor = connection.fileno()
        result: Dict[str, Any] = serve.serve_port(session.port, descriptor, descriptor, SILENCE) or {}
    if not result:
        raise LeaseError(
            f"{name}: the controller's session was lost while it wrote the board, which waited in its bootloader"
        )
    if not result.get("ok"):
        raise LeaseError(f"{name}: the controller could not write the board: {result.get('error', 'no reason given')}")


def offer(transaction_id: str, events: EventWriter, event: Dict[str, Any]) -> Optional[socket.socket]:
    """Tell the follower by ``event`` where to connect, and return its connection; ``None`` when nobody comes."""
    path = RUN / f"{transaction_id}.sock"
    if path.exists():
        path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(str(path), 0o600)
        listener.listen(1)
        listener.settimeout(ACCEPT_SECONDS)
        events.write({**event, "socket": str(path)})
        try:
            connection, _ = listener.accept()
        except socket.timeout:
            return None
        finally:
            path.unlink()
    connection.setblocking(True)
    return connection
