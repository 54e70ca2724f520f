"""A unix stream socket with many clients on the board's event loop."""

import socket
from collections.abc import Callable
from pathlib import Path

from fleetflash.lab.boards.loop import Loop


class Connection:
    """One client: ``buffer`` holds what it sent and nobody has consumed yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send a small answer; a client that has gone or never reads loses it."""
        try:
            self.socket.send(data)
        except OSError:
            pass


class SocketServer:
    """Accepts, reads, and calls ``received(connection)`` after every read."""

    def __init__(self, loop: Loop, path: Path, received: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._path = path
        self._received = received
        self._connections: dict[int, Connection] = {}
        # A killed board leaves its socket file behind; the new one has its name once connections are taken.
        young = path.with_name(f"{path.name}.new")
        young.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(young))
        self._listener.listen(64)
        young.rename(path)
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for connection in list(self._connections.values()):
            self._drop(connection)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[sock.fileno()] = connection
        self._loop.add_reader(sock.fileno(), lambda: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.buffer += data
        self._received(connection)

    def _drop(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        self._loop.remove_reader(fd)
        self._connections.pop(fd, None)
        connection.socket.close()
