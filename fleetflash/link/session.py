"""The agent on a host, spoken with over one SSH channel. Works in threads and in gevent's greenlets alike."""

import re
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

import paramiko

from fleetflash.agent import wire
from fleetflash.link import agent_archive, bootstrap
from fleetflash.link.errors import (
    AgentError,
    LinkError,
    PythonError,
    StallError,
    SudoError,
    UnreachableError,
)

#: A host gets this long to open a channel, start Python and say so, in seconds.
START_SECONDS = 30.0
#: A host gets this long to take in what it is sent, in seconds.
SEND_SECONDS = 60.0
#: An agent whose channel was closed gets this long to end and so release its port, in seconds.
END_SECONDS = 3.0
#: A silent connection is probed this often, and is lost when probes go unanswered for so long, in seconds.
KEEPALIVE_SECONDS = 10
LOST_SECONDS = 30.0

_CHUNK = 64 * 1024
_STDERR_KEPT = 8 * 1024
_NOISE_LIMIT = 256 * 1024
_MARKER_LINE = re.compile(rb"(?:^|\n)" + wire.MARKER + rb" ([^\r\n]+)\r?\n")
_SUDO_REFUSAL = re.compile(
    r"password is required|not allowed to (execute|run)|may not run|not in the sudoers|have a tty|no new privileges"
)

Message = dict[str, Any]


class AgentSession:
    """One running agent; what it is told and says are JSON messages and data, in order.

    + transport: an authenticated paramiko transport; it stays open
    + host: the name for error messages
    + arguments: the agent's subcommand and its arguments
    + sudo: run it as root (``sudo -n``)
    """

    def __init__(self, transport: paramiko.Transport, host: str, arguments: list[str], *, sudo: bool = False) -> None:
        self.host = host
        self._stderr = b""
        self._arrived = bytearray()
        self._frames: deque[Message | bytes] = deque()
        self._send_lock = threading.Lock()
        keep_alive(transport)
        self._channel = self._open_channel(transport)
        self._channel.settimeout(SEND_SECONDS)
        self._news = _News()
        for pipe in (self._channel.in_buffer, self._channel.in_stderr_buffer):
            pipe.set_event(self._news)
        try:
            self._start(arguments, sudo)
        except BaseException:
            self._channel.close()
            raise

    # Starting

    def _open_channel(self, transport: paramiko.Transport) -> paramiko.Channel:
        try:
            return transport.open_session(timeout=START_SECONDS)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(
                f"{self.host}: opened no SSH channel ({error or 'connection lost'}); is the host up?"
            ) from None

    def _start(self, arguments: list[str], sudo: bool) -> None:
        archive = agent_archive.archive()
        deadline = time.monotonic() + START_SECONDS
        # Paramiko waits for the answer to an exec request without a limit; closing the channel ends that.
        watchdog = threading.Timer(START_SECONDS, self._channel.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._channel.exec_command(bootstrap.command(archive, arguments, sudo=sudo))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(f"{self.host}: refused to run a command over SSH ({error})") from None
        finally:
            watchdog.cancel()
        word = self._read_marker(deadline, sudo)
        if word.startswith("old "):
            oldest = ".".join(map(str, bootstrap.OLDEST_PYTHON))
            raise PythonError(
                f"{self.host}: its python3 is {word[4:]}, the agent needs {oldest} or newer; upgrade the host's OS"
            )
        if word == "need":
            self._send_bytes(bootstrap.upload(archive.data))
        elif word != "have":
            raise AgentError(f"{self.host}: the agent began with {word!r}; is another program in the way?")

    def _read_marker(self, deadline: float, sudo: bool) -> str:
        while True:
            found = _MARKER_LINE.search(self._arrived)
            if found:
                word = found.group(1).decode(errors="replace")
                del self._arrived[: found.end()]
                return word
            if len(self._arrived) > _NOISE_LIMIT:
                raise AgentError(f"{self.host}: its login shell prints without end; look at its start-up files")
            try:
                if not self._receive_bytes(deadline):
                    raise self._start_failure(sudo)
            except StallError:
                raise StallError(
                    f"{self.host}: the agent did not start within {START_SECONDS:.0f} s; log in and run python3 there"
                ) from None

    def _start_failure(self, sudo: bool) -> LinkError:
        """Return why the command ended before Python said anything."""
        code = self._exit_code()
        last = self._last_words()
        if sudo and _SUDO_REFUSAL.search(last):
            return SudoError(
                f"{self.host}: sudo refused ({last}); allow this user `NOPASSWD: ALL` in /etc/sudoers.d, "
                "or log in as root"
            )
        if sudo and "python3" not in last and (code == 127 or "sudo" in last):
            return SudoError(f"{self.host}: sudo can't be used ({last}); install it, or log in as root")
        if code == 127 or re.search(r"python3.*(not found|No such file)|Unknown command", last):
            return PythonError(f"{self.host}: has no python3 ({last}); install the package python3")
        said = bytes(self._arrived[-200:]).decode(errors="replace").strip().split("\n")[-1]
        return AgentError(
            f"{self.host}: the agent did not start, exit code {code}: {last or said or 'no message'}; "
            "is this user's login shell a shell?"
        )

    # Talking

    def send(self, message: Message) -> None:
        """Send a JSON message (an object with a ``type``)."""
        self._send_bytes(wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        """Send raw bytes, in frames no larger than the wire allows."""
        for start in range(0, len(data), _CHUNK):
            self._send_bytes(wire.encode(wire.DATA, data[start : start + _CHUNK]))

    def receive(self, timeout: float | None) -> Message | bytes:
        """Return the next message or piece of data; ``StallError`` when none is there within ``timeout`` s.

        ``None`` waits as long as the connection lives. One thread at a time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._frames:
            self._parse()
            if not self._frames and not self._receive_bytes(deadline):
                raise self._ended()
        return self._frames.popleft()

    def _parse(self) -> None:
        try:
            while len(self._arrived) >= wire.HEADER_SIZE:
                kind, length = wire.parse_header(bytes(self._arrived[: wire.HEADER_SIZE]))
                end = wire.HEADER_SIZE + length
                if len(self._arrived) < end:
                    return
                payload = bytes(self._arrived[wire.HEADER_SIZE : end])
                del self._arrived[:end]
                self._frames.append(payload if kind == wire.DATA else wire.decode_json(payload))
        except wire.WireError as error:
            raise AgentError(f"{self.host}: the agent's words make no sense ({error}); update both sides") from None

    def _send_bytes(self, data: bytes) -> None:
        rest = memoryview(data)
        with self._send_lock:
            while rest:
                try:
                    # An agent that has closed its output has ended, whether or not its channel still takes data.
                    count = 0 if self._channel.eof_received else self._channel.send(bytes(rest[:_CHUNK]))
                except TimeoutError:
                    raise StallError(f"{self.host}: took in nothing for {SEND_SECONDS:.0f} s") from None
                except (OSError, EOFError, paramiko.SSHException):
                    count = 0
                if count == 0:
                    raise self._ended()
                rest = rest[count:]

    def _receive_bytes(self, deadline: float | None) -> bool:
        """Take in what comes; false at the end of the stream."""
        channel = self._channel
        while True:
            self._news.reset()
            # Both streams share one window: what is left unread of the one would block the other.
            self._read_stderr()
            if channel.recv_ready() or channel.eof_received or channel.closed:
                break
            remaining = None if deadline is None else deadline - time.monotonic()
            if (remaining is not None and remaining <= 0) or not self._news.wait(remaining):
                raise StallError(f"{self.host}: the agent said nothing in time")
        try:
            data = channel.recv(_CHUNK)
        except (OSError, EOFError, paramiko.SSHException):
            data = b""
        self._arrived += data
        return bool(data)

    # Ending

    def _read_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            self._stderr = (self._stderr + self._channel.recv_stderr(_CHUNK))[-_STDERR_KEPT:]

    def stderr_tail(self) -> str:
        """Return the last that the agent, or the shell before it, wrote to its standard error."""
        self._read_stderr()
        return self._stderr.decode(errors="replace").strip()

    def _last_words(self) -> str:
        lines = self.stderr_tail().splitlines()
        return lines[-1].strip() if lines else ""

    def _exit_code(self) -> int | None:
        """Return the exit code of an ended command, or ``None`` when the connection ended instead."""
        if not self._channel.status_event.wait(END_SECONDS):
            return None
        code = self._channel.exit_status
        return None if code == -1 else code

    def _ended(self) -> LinkError:
        code = self._exit_code()
        if code is None:
            return UnreachableError(f"{self.host}: the SSH connection was lost; run again when the host is back")
        last = self._last_words()
        return AgentError(f"{self.host}: the agent ended, exit code {code}: {last or 'it said nothing'}")

    def close(self) -> None:
        """End the agent and wait a moment for it, so that what it held is free. Closing twice is harmless."""
        try:
            if not self._channel.closed and self._channel.get_transport().is_active():
                self._channel.shutdown_write()
                self._channel.status_event.wait(END_SECONDS)
        except (OSError, EOFError, paramiko.SSHException):
            pass
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _News(threading.Event):
    """Set by both of a channel's buffers. Each would also clear it for itself, and hide the other's news."""

    def clear(self) -> None:
        pass

    def reset(self) -> None:
        super().clear()


def keep_alive(transport: paramiko.Transport) -> None:
    """Have a dead connection noticed, and small frames sent at once."""
    transport.set_keepalive(KEEPALIVE_SECONDS)
    connection: Any = transport.sock
    while isinstance(connection, paramiko.Channel):
        # Through a jump host, the socket is further down.
        connection = connection.get_transport().sock
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(LOST_SECONDS * 1000))
    except (AttributeError, OSError):
        # A ProxyCommand is a process, not a socket.
        pass
