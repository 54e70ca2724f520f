"""The ``--control`` socket, JSON lines: what a person at the bench could do to a board, and more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetflash.lab.boards.loop import Loop
from fleetflash.lab.boards.socket_server import Connection, SocketServer

Request = dict[str, Any]
Reply = Callable[[dict[str, Any]], None]
Handle = Callable[[Request, Reply], None]


class ControlServer:
    """Hands each request to ``handle(request, reply)``, which may reply later.

    A ValueError, TypeError or KeyError becomes an error reply.
    """

    def __init__(self, loop: Loop, path: Path, handle: Handle) -> None:
        self._handle = handle
        self._server = SocketServer(loop, path, self._received)

    def close(self) -> None:
        self._server.close()

    def _received(self, connection: Connection) -> None:
        def reply(answer: dict[str, Any]) -> None:
            connection.send(json.dumps(answer).encode() + b"\n")

        while b"\n" in connection.buffer:
            line, _, rest = bytes(connection.buffer).partition(b"\n")
            connection.buffer[:] = rest
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError("a request is a JSON object")
                self._handle(request, reply)
            except (ValueError, TypeError, KeyError) as error:
                reply({"ok": False, "error": str(error)})
