"""A flash tool that the controller runs, for a board whose host has none: placement ``controller``.

The agent offers the board's open port on a unix socket; the follower that holds the SSH session carries the frames, and
the controller starts the tool on a port made of them. Every step is still the agent's: it calls, the tool answers, and
the journal, the identity check and the backup are where they always are. When the session is lost, so is the tool, and
with it every way to the board until a controller comes back.
"""

from typing import Any, Tuple

from fleetflash.agent import lease, serve
from fleetflash.agent.events import EventWriter
from fleetflash.agent.port import Port
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.tools import messages
from fleetflash.agent.tools.messages import Message
from fleetflash.agent.tools.process import Report, nothing, raise_failure


class LentTool:
    """Implements ``process.Tool``; closing it closes the port. Progress is the controller's own to show.

    Raises ``lease.OutOfReachError`` when no controller takes the tool's part, or when it is lost.
    """

    def __init__(self, port: Port, board: str, transaction: str, events: EventWriter):
        assert isinstance(port, SerialPort)
        self.board = board
        self.port = port
        connection = lease.offer(transaction, events, {"step": "tool-offered", "board": board})
        if connection is None:
            raise lease.OutOfReachError(
                f"{board}: only a controller's esptool can write it, and none took its port within "
                f"{lease.ACCEPT_SECONDS:g} s; run again"
            )
        connection.setblocking(False)
        self._connection = connection
        self._server = serve.ToolServer(port, connection.fileno(), lease.SILENCE)

    def call(
        self, operation: str, data: bytes = b"", report: Report = nothing, **arguments: Any
    ) -> Tuple[Message, bytes]:
        result, pieces = self._server.exchange(messages.call(operation, data, arguments))
        if not result:
            raise lease.OutOfReachError(
                f"{self.board}: the controller's session was lost while its esptool had the board, which waits in its "
                "ROM loader; run again, and it is written anew"
            )
        raise_failure(self.port.name, result)
        return result, messages.joined(pieces)

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._server.say({"type": "end"})
        self._connection.close()
        self.port.close()
