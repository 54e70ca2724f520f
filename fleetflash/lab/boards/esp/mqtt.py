"""A gateway at an MQTT broker: it says that it is online, and what its battery does, on the board's event loop.

Source: MQTT 3.1.1 (OASIS), sections 2.2.3 (remaining length), 3.1 (CONNECT with a will), 3.2 (CONNACK), 3.3 (PUBLISH).
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleetflash.lab.boards.loop import Loop, Timer

_CONNECT, _CONNACK, _PUBLISH = 0x10, 0x20, 0x30
_RETAIN = 0x01
_CLEAN, _WILL, _WILL_RETAIN, _PASSWORD, _USER = 0x02, 0x04, 0x20, 0x40, 0x80
KEEP_ALIVE = 10  # seconds; telemetry comes oftener
_TIMEOUT = 0.5  # seconds for connecting, during which the board does nothing else


@dataclass(frozen=True)
class Account:
    """Where the broker is, who comes, and what its topics begin with."""

    address: tuple[str, int]
    client: str
    prefix: str
    user: str = ""
    password: str = ""


class MqttClient:
    """Keeps ``<prefix>/status`` at ``online``, and says ``<prefix>/telemetry`` every second; tries again when lost.

    Its will leaves the status at ``offline`` when it goes without a word, as a gateway that is reset does.
    """

    def __init__(self, loop: Loop, account: Account, telemetry: Callable[[], dict[str, Any]], at: float) -> None:
        self._loop = loop
        self._account = account
        self._telemetry = telemetry
        self._socket: socket.socket | None = None
        self._accepted = False
        self._timer: Timer = loop.at(at, self._second)

    def close(self) -> None:
        self._timer.cancel()
        self._lose()

    def _second(self, due: float) -> None:
        self._timer = self._loop.at(due + 1.0, self._second)
        if self._socket is None:
            self._connect()
        elif self._accepted:
            self._send(publish(f"{self._account.prefix}/telemetry", json.dumps(self._telemetry()).encode()))

    def _connect(self) -> None:
        try:
            self._socket = socket.create_connection(self._account.address, _TIMEOUT)
        except OSError:
            return  # in a second again
        self._loop.add_reader(self._socket.fileno(), self._receive)
        self._send(connect(self._account))

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._lose()
        elif data[0] == _CONNACK and data[3:4] == b"\0":
            self._accepted = True
            self._send(publish(f"{self._account.prefix}/status", b"online", retain=True))

    def _send(self, packet: bytes) -> None:
        try:
            if self._socket is not None:
                self._socket.sendall(packet)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket, self._accepted = None, False


def connect(account: Account) -> bytes:
    """Return a CONNECT packet with the will ``offline``."""
    flags = _CLEAN | _WILL | _WILL_RETAIN | (_USER | _PASSWORD if account.user else 0)
    payload = _text(account.client) + _text(f"{account.prefix}/status") + _text("offline")
    if account.user:
        payload += _text(account.user) + _text(account.password)
    return _packet(_CONNECT, _text("MQTT") + bytes((4, flags)) + KEEP_ALIVE.to_bytes(2, "big") + payload)


def publish(topic: str, message: bytes, retain: bool = False) -> bytes:
    return _packet(_PUBLISH | (_RETAIN if retain else 0), _text(topic) + message)


def _packet(kind: int, content: bytes) -> bytes:
    length, left = bytearray(), len(content)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes((kind,)) + bytes(length) + content


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
