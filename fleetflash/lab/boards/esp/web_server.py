"""A gateway's web server: a page and a status in JSON, on the board's event loop.

Source: RFC 9112 (HTTP/1.1), sections 3 and 9.6; every answer ends with its connection.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

from fleetflash.lab.boards.loop import Loop
from fleetflash.lab.boards.socket_server import Connection, StreamServer

_END = b"\r\n\r\n"
#: Of a request, in bytes: whoever sends more without an end is sent away.
_MOST = 8192


class WebServer:
    """Serves ``/`` and ``/api/status``. ``status``: what that says."""

    def __init__(self, loop: Loop, address: tuple[str, int], title: str, status: Callable[[], dict[str, Any]]) -> None:
        self._title = title
        self._status = status
        self._server = StreamServer(loop, socket.create_server(address), self._received)

    def close(self) -> None:
        self._server.close()

    def _received(self, connection: Connection) -> None:
        if _END not in connection.buffer and len(connection.buffer) <= _MOST:
            return
        method, path, *_ = [*connection.buffer.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", ""]
        connection.socket.setblocking(True)
        connection.send(self._answer(method, path))
        self._server.drop(connection)

    def _answer(self, method: str, path: str) -> bytes:
        if method != "GET":
            return _response("405 Method Not Allowed", "text/plain", b"GET only\n")
        if path == "/":
            page = f"<!doctype html><title>{self._title}</title><h1>{self._title}</h1>\n"
            return _response("200 OK", "text/html; charset=utf-8", page.encode())
        if path == "/api/status":
            return _response("200 OK", "application/json", json.dumps(self._status()).encode())
        return _response("404 Not Found", "text/plain", b"not found\n")


def _response(status: str, kind: str, content: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content
