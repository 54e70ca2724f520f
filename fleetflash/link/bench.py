"""One serial port by hand, here or on a host: opened by its name as often as its board comes back under another."""

import time
from typing import Self

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.ports import SerialPort
from fleetflash.link.errors import LinkError
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import SshConnection, connect
from fleetflash.link.url import SCHEME, PortUrl, parse_url

#: A board on USB that has just left the bus gets this long to come back, in seconds.
RETURN_SECONDS = 10.0


class BenchPort:
    """``name``: a device of this computer, or a ``fleetflash://`` URL. Raises ``UrlError`` and ``LinkError``.

    One SSH connection serves all ports that are opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._url: PortUrl | None = parse_url(name) if name.lower().startswith(f"{SCHEME}:") else None
        self._connection: SshConnection | None = None
        self._session: AgentSession | None = None
        self._port: Port | None = None

    def open(self, baudrate: int) -> Port:
        """Open the port anew; raises ``PortError`` when it is absent, held or gone."""
        self._close_port()
        if self._url is None:
            self._port = SerialPort.open(self.name, baudrate)
            return self._port
        url = self._url
        if self._connection is None:
            self._connection = connect(url.host, url.user, url.ssh_port, ssh_config=url.ssh_config)
        self._session = AgentSession(self._connection.transport, url.host, ["serve"], sudo=url.sudo)
        self._port = RemotePort.open(self._session, url.host, url.device, baudrate)
        self._port.address = self.name
        return self._port

    def reopen(self, baudrate: int) -> Port:
        """As ``open``, once the board is back."""
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                return self.open(baudrate)
            except (PortError, LinkError) as error:
                if time.monotonic() > deadline:
                    raise
                if isinstance(error, LinkError):
                    self.close()
                time.sleep(0.2)

    def close(self) -> None:
        self._close_port()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _close_port(self) -> None:
        port, session = self._port, self._session
        self._port = self._session = None
        try:
            if port is not None:
                port.close()
        finally:
            if session is not None:
                session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except (PortError, LinkError):
            pass  # what it was opened for is over
