"""A port lent to the controller for one board: placement ``controller``.

The board is in its bootloader and its identity is checked; the journal says that it is being written. Now the agent
offers the open port on a unix socket, the follower that holds the SSH session carries the frames, and the controller
erases, programs and verifies. When the session is lost, so is the lease, and the transaction restores the board itself.
"""

import os
import socket
from typing import TYPE_CHECKING, Any, Dict

from fleetflash.agent import serve
from fleetflash.agent.events import EventWriter
from fleetflash.agent.guard import RUN
from fleetflash.agent.schema import Image

if TYPE_CHECKING:
    from fleetflash.agent.board import Session

#: The controller gets this long to take the port, in seconds.
ACCEPT_SECONDS = 15.0


class LeaseError(Exception):
    """The controller did not take the port, lost it, or reported a failure."""


def lend_port(session: "Session", transaction_id: str, image: Image, events: EventWriter) -> None:
    """Offer the port and wait until the controller has written and verified ``image`` through it."""
    path = RUN / f"{transaction_id}.sock"
    if path.exists():
        path.unlink()
    name = session.board.name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(str(path), 0o600)
        listener.listen(1)
        listener.settimeout(ACCEPT_SECONDS)
        events.write({"step": "port-offered", "board": name, "socket": str(path), "sha256": image.sha256})
        try:
            connection, _ = listener.accept()
        except socket.timeout:
            raise LeaseError(f"{name}: no controller took the port within {ACCEPT_SECONDS:g} s") from None
        finally:
            path.unlink()
    with connection:
        connection.setblocking(True)
        result: Dict[str, Any] = serve.serve_port(session.port, connection.fileno(), connection.fileno()) or {}
    if not result:
        raise LeaseError(f"{name}: the controller's session was lost while it wrote the board")
    if not result.get("ok"):
        raise LeaseError(f"{name}: the controller could not write the board: {result.get('error', 'no reason given')}")
