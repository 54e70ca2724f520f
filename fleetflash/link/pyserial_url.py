"""A host's serial port for every pyserial program, by its URL (see ``url``)."""

import io
import termios
from typing import Any

from serial import PortNotOpenError, SerialBase, SerialException, SerialTimeoutException

from fleetflash.agent.port import PortError
from fleetflash.link.errors import LinkError
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import SshConnection, connect
from fleetflash.link.url import UrlError, parse_url


class _RemoteName(str):
    """A port's name. esptool knows one kind of port whose lines no ioctl reaches, and knows it by this prefix;
    for every other it would call ``fileno`` and give up resetting the chip."""

    def startswith(self, *arguments: Any) -> bool:
        return arguments[0] == "rfc2217:" or super().startswith(*arguments)


class Serial(SerialBase):
    """pyserial's interface to a ``RemotePort``. Nothing polls; changing a timeout costs no round trip."""

    BAUDRATES = (*SerialBase.BAUDRATES, 250000)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._connection: SshConnection | None = None
        self._session: AgentSession | None = None
        self._remote: RemotePort | None = None
        self._line: tuple[int, str] = (0, "")
        super().__init__(*arguments, **options)

    # Opening and closing

    def open(self) -> None:
        if self.portstr is None:
            raise SerialException("Port must be configured before it can be used.")
        if self.is_open:
            raise SerialException("Port is already open.")
        self.name = _RemoteName(self.portstr)
        self._check_settings()
        try:
            url = parse_url(self.portstr)
            self._connection = connect(url.host, url.user, url.ssh_port, ssh_config=url.ssh_config)
            self._session = AgentSession(self._connection.transport, url.host, ["serve"], sudo=url.sudo)
            self._remote = RemotePort.open(
                self._session, url.host, url.device, self.baudrate, parity=self.parity, background=True
            )
        except (UrlError, LinkError, PortError) as error:
            self._release()
            raise SerialException(str(error)) from None
        except BaseException:
            self._release()
            raise
        self._line = (self.baudrate, self.parity)
        self.is_open = True
        # The agent has asserted both lines, as pyserial does where nothing else was said.
        if not self.dtr or not self.rts:
            self._remote.set_lines(self.dtr, self.rts)

    def close(self) -> None:
        self.is_open = False
        self._release()

    def _release(self) -> None:
        remote, session, connection = self._remote, self._session, self._connection
        self._remote = self._session = self._connection = None
        if remote is not None:
            remote.close()
        if session is not None:
            session.close()
        if connection is not None:
            connection.close()

    def _check_settings(self) -> None:
        if self.bytesize != 8 or self.stopbits != 1 or self.parity not in ("N", "E", "O"):
            raise ValueError(f"{self.portstr}: only 8N1, 8E1 and 8O1 are served")
        if self.xonxoff or self.rtscts or self.dsrdtr:
            raise ValueError(f"{self.portstr}: flow control by the port is not served; leave it off")

    def _reconfigure_port(self, force_update: bool = False) -> None:
        if self._remote is None:
            return
        self._check_settings()
        baudrate, parity = self._line
        try:
            if baudrate != self.baudrate:
                self._remote.set_baudrate(self.baudrate)
            if parity != self.parity:
                self._remote.set_parity(self.parity)
        except PortError as error:
            raise SerialException(str(error)) from None
        self._line = (self.baudrate, self.parity)

    def _open_port(self) -> RemotePort:
        if self._remote is None:
            raise PortNotOpenError()
        return self._remote

    # Data

    @property
    def in_waiting(self) -> int:
        try:
            return self._open_port().in_waiting
        except PortError as error:
            raise SerialException(str(error)) from None

    @property
    def out_waiting(self) -> int:
        """What is written is the agent's; how much of it the line has sent is known only after ``flush``."""
        self._open_port()
        return 0

    def read(self, size: int = 1) -> bytes:
        try:
            return self._open_port().read(size, self.timeout)
        except PortError as error:
            raise SerialException(str(error)) from None

    def write(self, b: Any, /) -> int:
        data = bytes(b)
        try:
            if not self._open_port().write_within(data, self.write_timeout):
                raise SerialTimeoutException("Write timeout")
        except PortError as error:
            raise SerialException(str(error)) from None
        return len(data)

    def flush(self) -> None:
        """Return when everything written has left the port."""
        try:
            self._open_port().drain()
        except PortError as error:
            raise SerialException(str(error)) from None

    def reset_input_buffer(self) -> None:
        try:
            self._open_port().discard_input()
        except PortError as error:
            raise SerialException(str(error)) from None

    def reset_output_buffer(self) -> None:
        """Nothing is held back here: what was written is on its way."""
        self._open_port()

    def cancel_read(self) -> None:
        if self._remote is not None:
            self._remote.cancel_read()

    def cancel_write(self) -> None:
        """A write waits only for a port that takes no data; its ``write_timeout`` ends that."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a remote port has no file descriptor")

    # Lines

    def send_break(self, duration: float = 0.25) -> None:
        try:
            self._open_port().send_break(duration)
        except PortError as error:
            raise SerialException(str(error)) from None

    def _update_break_state(self) -> None:
        try:
            self._open_port().set_break(bool(self.break_condition))
        except PortError as error:
            raise SerialException(str(error)) from None

    def _update_rts_state(self) -> None:
        self._set_lines(None, bool(self.rts))

    def _update_dtr_state(self) -> None:
        self._set_lines(bool(self.dtr), None)

    def _set_lines(self, dtr: bool | None, rts: bool | None) -> None:
        try:
            self._open_port().set_lines(dtr, rts)
        except PortError as error:
            raise SerialException(str(error)) from None

    def _input(self, bit: int) -> bool:
        try:
            return bool(self._open_port().modem_inputs() & bit)
        except PortError as error:
            raise SerialException(str(error)) from None

    @property
    def cts(self) -> bool:
        return self._input(termios.TIOCM_CTS)

    @property
    def dsr(self) -> bool:
        return self._input(termios.TIOCM_DSR)

    @property
    def ri(self) -> bool:
        return self._input(termios.TIOCM_RI)

    @property
    def cd(self) -> bool:
        return self._input(termios.TIOCM_CD)


class LentSerial(Serial):
    """A port that somebody else has opened, at ``baudrate``, and keeps open while it is closed here."""

    def __init__(self, remote: RemotePort, baudrate: int = 115200) -> None:
        super().__init__(None, baudrate)
        self._port = self.portstr = self.name = _RemoteName(remote.name)
        self._remote, self._line = remote, (baudrate, self.parity)
        self.is_open = True

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False
