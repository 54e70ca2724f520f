"""An open port served to a controller over a pair of byte streams (an SSH channel, a unix socket).

Frames as in ``wire``. DATA frames are port bytes, both ways. A command that carries an ``id`` is answered by
``{"type":"done","id":…}`` or ``{"type":"error","id":…,"message":…}``. Controller → agent::

    {"type":"open","port":path,"baudrate":n}    the first message to ``main``; answered by "opened" or "error"
    {"type":"baudrate","value":n}               {"type":"parity","value":"N"|"E"|"O"}
    {"type":"lines","dtr":true,"rts":null}      with "at" (seconds, any clock) the pauses between are kept
    {"type":"play","steps":[[dtr,rts,seconds],…]}
    {"type":"break","seconds":s}                or {"type":"break","on":true}
    {"type":"discard_input"}                    what was received before its "done" is to be dropped
    {"type":"drain"}                            done when everything written has left
    {"type":"inputs"}                           "done" carries "bits", the TIOCM_* bits of the port
    {"type":"close",…}                          ends ``serve_port``, which returns this message
    {"type":"piece",…}, {"type":"result",…}     of a flash tool that has the port: ``ToolServer.exchange`` collects the
                                                pieces and ends with the result
    {"type":"ping"}                             nothing but a sign of life

Commands take effect in the order of the stream: what was written before one has left the port when it is
carried out. ``{"type":"credit","bytes":n}`` allows the other side to send ``n`` bytes more; both begin with
none. An ``error`` without ``id`` is the end: the port is gone.
"""

import math
import os
import select
import time
from collections import deque
from typing import Deque, Iterable, List, Optional, Tuple, Union

from fleetflash.agent import wire
from fleetflash.agent.drain import Drain
from fleetflash.agent.port import PortError
from fleetflash.agent.port_commands import Commands, Message, Task, number
from fleetflash.agent.ports import SerialPort

#: How many bytes each side may have on their way to the other.
WINDOW = 256 * 1024
#: A tool whose process lives, but does nothing for this long, in seconds, hangs: erasing a whole flash takes less.
TOOL_SILENCE = 180.0
#: A controller that says nothing for this long, in seconds, is taken for dead: its port must not stay locked.
SILENCE = 60.0

_CHUNK = 16 * 1024
_FLUSH_SECONDS = 2.0
_MOST_COMMANDS = 1024


def main(stdin_fd: int, stdout_fd: int) -> int:
    """Open the port that the first message asks for and serve it; returns the exit code."""
    with open(stdin_fd, "rb", buffering=0, closefd=False) as stream:
        frame = wire.read_frame(stream)
    if frame is None:
        return 0
    try:
        port = _open(frame)
    except (PortError, wire.WireError) as error:
        _write_all(stdout_fd, wire.encode_json({"type": "error", "message": str(error)}))
        return 1
    try:
        _write_all(stdout_fd, wire.encode_json({"type": "opened"}))
        return 0 if serve_port(port, stdin_fd, stdout_fd) else 1
    finally:
        port.close()


def _open(frame: Tuple[bytes, bytes]) -> SerialPort:
    kind, payload = frame
    message = wire.decode_json(payload) if kind == wire.JSON else {}
    path, baudrate = message.get("port"), message.get("baudrate", 115200)
    if message.get("type") != "open" or not isinstance(path, str) or not isinstance(baudrate, int):
        raise wire.WireError('expected {"type":"open","port":…,"baudrate":…}')
    return SerialPort.open(path, baudrate, str(message.get("parity", "N")))


def serve_port(port: SerialPort, read_fd: int, write_fd: int, silence: float = SILENCE) -> Message:
    """Serve until the controller closes; return its ``close`` message, or nothing when it was lost.

    The port stays open. The descriptors may be one socket. Raises ``PortError`` when the port is gone, after
    the controller was told.
    """
    blocking = [(fd, os.get_blocking(fd)) for fd in {read_fd, write_fd}]
    for fd, _ in blocking:
        os.set_blocking(fd, False)
    try:
        return _Server(port, read_fd, write_fd, silence).run()
    finally:
        for fd, value in blocking:
            os.set_blocking(fd, value)


class ToolServer:
    """Serves an open port to a flash tool at the other end of a socket, from one exchange of messages to the next.

    The descriptor must not block.
    """

    def __init__(self, port: SerialPort, descriptor: int, silence: float = SILENCE):
        self._server = _Server(port, descriptor, descriptor, silence, TOOL_SILENCE)
        self._server.grant()

    def exchange(self, messages: Iterable[Message]) -> Tuple[Message, List[Message]]:
        """Send ``messages`` and serve the port until the tool's result; return that and the pieces before it.

        An empty result: the other side was lost. Raises ``PortError`` when the port is gone.
        """
        return self._server.exchange(messages)

    def say(self, message: Message) -> None:
        """Send a last message, if anybody still listens."""
        self._server.say(message)


class _PeerGone(Exception):
    """The controller is no longer there."""


class _Server:
    def __init__(self, port: SerialPort, read_fd: int, write_fd: int, silence: float, idle: float = math.inf) -> None:
        self._port = port
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._silence = silence
        self._idle = idle
        self._heard = self._worked = time.monotonic()
        self._arrived = bytearray()
        self._leaving = bytearray()
        self._queue: Deque[Union[memoryview, Message]] = deque()
        self._queued_bytes = 0
        self._written_bytes = 0
        self._dirty = False
        self._credit = 0
        self._task: Optional[Task] = None
        self._current: Message = {}
        self._resume_at: Optional[float] = None
        self._drain: Optional[Drain] = None
        self._commands = Commands(port, self._answer)

    def run(self) -> Message:
        self.grant()
        return self._serve()

    def grant(self) -> None:
        """Allow the other side to send."""
        self._send({"type": "credit", "bytes": WINDOW})

    def exchange(self, messages: Iterable[Message]) -> Tuple[Message, List[Message]]:
        self._heard = self._worked = time.monotonic()
        self._commands.closed, self._commands.pieces = None, []
        for message in messages:
            self._send(message)
        return self._serve(), self._commands.pieces

    def say(self, message: Message) -> None:
        self._send(message)
        self._flush_last()

    def _serve(self) -> Message:
        try:
            while self._commands.closed is None:
                self._advance()
                self._flush()
                if self._commands.closed is None:
                    self._wait()
            self._flush_last()
            return self._commands.closed
        except _PeerGone:
            return {}
        except (PortError, wire.WireError) as error:
            self._send({"type": "error", "message": str(error)})
            self._flush_last()
            if isinstance(error, PortError):
                raise
            return {}
        finally:
            if self._drain is not None:
                self._drain.abandon()

    # Waiting

    def _wait(self) -> None:
        """Block until something can be done, then take in what has come."""
        masks = {self._read_fd: select.POLLIN, self._port.fileno(): 0}
        if self._leaving:
            masks[self._write_fd] = masks.get(self._write_fd, 0) | select.POLLOUT
        if self._credit > 0 and len(self._leaving) < WINDOW:
            masks[self._port.fileno()] |= select.POLLIN
        if self._task is None and self._queue:
            masks[self._port.fileno()] |= select.POLLOUT
        if self._drain is not None:
            masks[self._drain.fd] = select.POLLIN
        poll = select.poll()
        for fd, mask in masks.items():
            poll.register(fd, mask)
        events = dict(poll.poll(self._poll_timeout()))
        gone = select.POLLHUP | select.POLLERR | select.POLLNVAL
        if events.get(self._read_fd, 0) & (select.POLLIN | gone):
            self._take_in()
        elif time.monotonic() - self._heard > self._silence:
            raise _PeerGone
        if time.monotonic() - self._worked > self._idle:
            raise _PeerGone
        if self._write_fd != self._read_fd and events.get(self._write_fd, 0) & gone:
            raise _PeerGone
        if events.get(self._port.fileno(), 0) & (select.POLLIN | gone):
            self._read_port(bool(events[self._port.fileno()] & gone))

    def _poll_timeout(self) -> int:
        """Return how long poll may block, in ms; the last millisecond of a pause is slept, which is exact."""
        timeout = self._heard + self._silence - time.monotonic()
        if self._resume_at is None:
            return max(1, math.ceil(timeout * 1000))
        pause = self._resume_at - time.monotonic()
        if pause < 0.002:
            time.sleep(max(0.0, pause))
            return 0
        return max(0, int(min(timeout, pause) * 1000) - 1)

    def _read_port(self, gone: bool) -> None:
        if self._credit <= 0 and not gone:
            return
        data = self._port.read_some(min(max(self._credit, 1), _CHUNK))
        if data:
            self._credit -= len(data)
            self._leaving += wire.encode(wire.DATA, data)

    # From the controller

    def _take_in(self) -> None:
        try:
            data = os.read(self._read_fd, 4 * _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            raise _PeerGone from None
        if not data:
            raise _PeerGone
        self._heard = time.monotonic()
        self._arrived += data
        while len(self._arrived) >= wire.HEADER_SIZE:
            kind, length = wire.parse_header(bytes(self._arrived[: wire.HEADER_SIZE]))
            end = wire.HEADER_SIZE + length
            if length > WINDOW:
                raise wire.WireError(f"a frame of {length} bytes is larger than the window of {WINDOW}")
            if len(self._arrived) < end:
                break
            payload = bytes(self._arrived[wire.HEADER_SIZE : end])
            del self._arrived[:end]
            self._enqueue(kind, payload)

    def _enqueue(self, kind: bytes, payload: bytes) -> None:
        if kind == wire.DATA:
            self._worked = self._heard
            self._queued_bytes += len(payload)
            if self._queued_bytes > WINDOW:
                raise wire.WireError(f"{self._queued_bytes} bytes on their way, {WINDOW} were allowed")
            if payload:
                self._queue.append(memoryview(payload))
            return
        message = wire.decode_json(payload)
        if message["type"] != "ping":
            self._worked = self._heard
        if message["type"] == "credit":
            self._credit += int(number(message, "bytes", 2**31))
        elif message["type"] != "ping":
            if len(self._queue) >= _MOST_COMMANDS:
                raise wire.WireError(f"more than {_MOST_COMMANDS} commands are waiting")
            self._queue.append(message)

    # To the port

    def _advance(self) -> None:
        """Do what can be done without waiting, in the order of the stream."""
        while self._commands.closed is None:
            if self._task is not None:
                if not self._resume():
                    return
            elif not self._queue:
                return
            else:
                head = self._queue[0]
                if isinstance(head, memoryview):
                    if not self._write_port(head):
                        return
                else:
                    self._queue.popleft()
                    self._current = head
                    self._task = self._commands.carry_out(head)

    def _write_port(self, data: memoryview) -> bool:
        """Write the head of the queue; say whether all of it was taken."""
        count = self._port.write_some(data)
        self._dirty = self._dirty or count > 0
        self._queued_bytes -= count
        self._written_bytes += count
        if self._written_bytes >= WINDOW // 4:
            self._send({"type": "credit", "bytes": self._written_bytes})
            self._written_bytes = 0
        if count < len(data):
            self._queue[0] = data[count:]
            return False
        self._queue.popleft()
        return True

    def _resume(self) -> bool:
        """Carry the current command on; say whether it has ended."""
        if self._drain is not None:
            if not self._drain.over:
                return False
            drain, self._drain = self._drain, None
            drain.finish()
        if self._resume_at is not None:
            if time.monotonic() < self._resume_at:
                return False
            self._resume_at = None
        assert self._task is not None
        try:
            step = next(self._task)
        except StopIteration:
            self._task = None
            return True
        except (PortError, wire.WireError) as error:
            self._task = None
            self._answer({"type": "error", "message": str(error)})
            return True
        if step is not None:
            self._resume_at = step
        elif self._dirty:
            self._dirty = False
            self._drain = Drain(self._port)
        return self._resume()

    # To the controller

    def _answer(self, message: Message) -> None:
        if "id" in self._current:
            message["id"] = self._current["id"]
        elif message["type"] == "done":
            return
        self._send(message)

    def _send(self, message: Message) -> None:
        self._leaving += wire.encode_json(message)

    def _flush(self) -> None:
        """Send as much as the stream takes at once."""
        while self._leaving:
            try:
                count = os.write(self._write_fd, self._leaving[: 4 * _CHUNK])
            except BlockingIOError:
                return
            except OSError:
                raise _PeerGone from None
            del self._leaving[:count]

    def _flush_last(self) -> None:
        """Send the last words, if anybody still listens."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        poll = select.poll()
        poll.register(self._write_fd, select.POLLOUT)
        try:
            self._flush()
            while self._leaving and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self._flush()
        except _PeerGone:
            pass


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
