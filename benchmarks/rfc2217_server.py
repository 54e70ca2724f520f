"""One serial port by RFC 2217 for one client at a time, by pyserial's own ``PortManager``: for comparison only.

    python rfc2217_server.py DEVICE TCP_PORT

Anybody who reaches the TCP port has the serial port; fleetflash's own forwarding listens nowhere.
"""

import socket
import sys
import threading

import serial
import serial.rfc2217


class _Client:
    """What ``PortManager`` writes its negotiation to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._connection.sendall(data)


def serve(port: serial.Serial, connection: socket.socket) -> None:
    client = _Client(connection)
    manager = serial.rfc2217.PortManager(port, client)
    over = threading.Event()

    def to_client() -> None:
        while not over.is_set():
            data = port.read(max(1, port.in_waiting))
            if data:
                client.write(b"".join(manager.escape(data)))

    reader = threading.Thread(target=to_client)
    reader.start()
    try:
        while data := connection.recv(65536):
            port.write(b"".join(manager.filter(data)))
    except OSError:
        pass
    finally:
        over.set()
        reader.join()


def main(device: str, number: int) -> None:
    with socket.create_server(("", number)) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, serial.Serial(device, timeout=0.2) as port:
                serve(port, connection)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
