"""Stream sockets with many clients on the board's event loop."""

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


class StreamServer:
    """Accepts, reads, and calls ``received(connection)`` after every read. ``listener``: bound, and listening."""

    def __init__(self, loop: Loop, listener: socket.socket, received: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._received = received
        self._connections: dict[int, Connection] = {}
        self._listener = listener
        self._listener.setblocking(False)
        loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections.values()):
            self.drop(connection)

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
            self.drop(connection)
            return
        connection.buffer += data
        self._received(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        fd = connection.socket.fileno()
        self._loop.remove_reader(fd)
        self._connections.pop(fd, None)
        connection.socket.close()


class SocketServer(StreamServer):
    """Of a unix socket, whose file is there as long as connections are taken."""

    def __init__(self, loop: Loop, path: Path, received: Callable[[Connection], None]) -> None:
        self._path = path
        # A killed board leaves its socket file behind; the new one has its name once connections are taken.
        young = path.with_name(f"{path.name}.new")
        young.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(young))
        listener.listen(64)
        young.rename(path)
        super().__init__(loop, listener, received)

    def close(self) -> None:
        super().close()
        self._path.unlink(missing_ok=True)
