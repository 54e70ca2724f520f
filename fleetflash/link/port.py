"""A port of a host, used as if it were here: the agent's ``serve`` at the other end of a frame channel."""

import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from fleetflash.agent.port import LineStep, PortError
from fleetflash.link.errors import LinkError, PortLostError

Message = dict[str, Any]

#: How many bytes may be on their way here.
WINDOW = 256 * 1024
#: The agent takes a controller that is silent for a minute for dead and frees the port; this is how often
#: it is told otherwise, in seconds.
HEARTBEAT_SECONDS = 15.0
#: A host that has lent a port settles its printer after 20 s of silence; this is how often it is told otherwise.
LEASE_HEARTBEAT = 5.0
#: What a host that has lent a port says only once that is over, as when its agent has died.
BEYOND = ("event", "monitor", "outcome", "refused")
#: The agent gets this long to open the port, in seconds.
OPEN_SECONDS = 20.0
#: A command gets this long beside the time that the line needs for what was written before, in seconds.
COMMAND_SECONDS = 20.0
#: What was written last gets this long to leave when the port is closed, as Linux gives it, in seconds.
CLOSE_SECONDS = 30.0
#: The longest time in seconds that a port may take no data at all.
WRITE_SECONDS = 30.0

_PIECE = 32 * 1024
_LONG = 3600.0


class FrameChannel(Protocol):
    """What carries the frames: an ``AgentSession``, or a transaction that lends a port."""

    def send(self, message: Message) -> None: ...

    def send_data(self, data: bytes) -> None: ...

    def receive(self, timeout: float) -> Message | bytes:
        """Return the next message or data; ``TimeoutError`` when none comes within ``timeout`` seconds."""


class RemotePort:
    """Implements the agent's ``Port``. Failures are ``PortError``; ``PortLostError`` where the connection failed.

    + channel: carries the frames; its owner closes it after the port
    + name: ``host:device``, for messages
    + heartbeat: how often the agent is told that the controller lives, in seconds
    + background: a thread of its own receives, so that several threads may use the port, ``read`` may be
      cancelled and ``in_waiting`` is current. Without, whoever calls ``read`` receives, which is faster.
    """

    def __init__(
        self, channel: FrameChannel, name: str, *, background: bool = False, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None:
        self.name = name
        self.address = ""
        self._host = name.partition(":/")[0]
        self._channel = channel
        self._background = background
        self._heartbeat = heartbeat
        self._baudrate = 115200
        self._condition = threading.Condition()
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._taken = 0
        self._credit = 0
        self._unsettled = 0
        self._ids = itertools.count(1)
        self._answers: dict[int, Message] = {}
        self._dropping: int | None = None
        self._cancelled = False
        self._failure: PortError | None = None
        self._closed = False
        self._closing = threading.Event()
        self._send({"type": "credit", "bytes": WINDOW})
        threading.Thread(target=self._beat, name=f"heartbeat {self.name}", daemon=True).start()
        if background:
            threading.Thread(target=self._receive_all, name=f"reader {self.name}", daemon=True).start()

    @classmethod
    def open(
        cls,
        channel: FrameChannel,
        host: str,
        device: str,
        baudrate: int = 115200,
        *,
        parity: str = "N",
        background: bool = False,
    ) -> Self:
        """Have an agent that was started as ``serve`` open ``device``."""
        try:
            channel.send({"type": "open", "port": device, "baudrate": baudrate, "parity": parity})
            answer = channel.receive(OPEN_SECONDS)
        except LinkError as error:
            raise PortLostError(str(error)) from error
        if not isinstance(answer, dict) or answer["type"] != "opened":
            text = answer.get("message") if isinstance(answer, dict) else None
            raise PortError(f"{host}: {text or f'{device}: the agent answered {answer!r}'}")
        port = cls(channel, f"{host}:{device}", background=background)
        port._baudrate = baudrate
        return port

    # Data

    def read(self, size: int, timeout: float | None) -> bytes:
        """Return as soon as ``size`` bytes are there, or what came within ``timeout`` seconds."""
        self._wait(lambda: len(self._buffer) >= size or self._cancelled, timeout)
        with self._condition:
            self._cancelled = False
            data = bytes(self._buffer[:size])
            if not data and size and self._failure is not None:
                raise self._failure
            del self._buffer[:size]
            self._taken += len(data)
        self._return_credit()
        return data

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``; returns before it is on the wire."""
        if not self.write_within(data, WRITE_SECONDS):
            raise PortError(f"{self.name}: takes no data since {WRITE_SECONDS:g} s; unplug and replug the board")

    def write_within(self, data: bytes, timeout: float | None) -> bool:
        """Hand over ``data``; false when the port took nothing for ``timeout`` seconds."""
        rest = memoryview(data)
        while rest:
            granted = self._wait(lambda: self._credit > 0, timeout)
            self._check()
            if not granted:
                return False
            with self._condition:
                piece = rest[: min(self._credit, _PIECE)]
                self._credit -= len(piece)
                self._unsettled += len(piece)
            self._send(bytes(piece))
            rest = rest[len(piece) :]
        return True

    def discard_input(self) -> None:
        """Drop every byte received and not yet read, those on their way included. Costs no round trip."""
        with self._condition:
            self._taken += len(self._buffer)
            self._buffer.clear()
            self._dropping = next(self._ids)
            message = {"type": "discard_input", "id": self._dropping}
        self._send(message)
        self._return_credit()

    @property
    def in_waiting(self) -> int:
        """How many bytes can be read at once."""
        self._wait(lambda: False, 0) if not self._background else None
        if not self._buffer:
            self._check()
        return len(self._buffer)

    def cancel_read(self) -> None:
        """Have a ``read`` in another thread return with what it has (with ``background`` only)."""
        with self._condition:
            self._cancelled = True
            self._condition.notify_all()

    # Commands

    def set_baudrate(self, baudrate: int) -> None:
        """Send what is written, then switch to ``baudrate`` bit/s."""
        self._command({"type": "baudrate", "value": baudrate})
        self._baudrate = baudrate

    def set_parity(self, parity: str) -> None:
        """Send what is written, then switch to parity ``N``, ``E`` or ``O``."""
        self._command({"type": "parity", "value": parity})

    def play(self, steps: list[LineStep]) -> None:
        """Run a DTR/RTS sequence with exact timing, beside the port."""
        self._command({"type": "play", "steps": steps}, sum(pause for _, _, pause in steps))

    def set_lines(self, dtr: bool | None, rts: bool | None) -> None:
        """Set DTR and RTS; doesn't wait for it, but the pauses between calls are kept beside the port."""
        self._send({"type": "lines", "dtr": dtr, "rts": rts, "at": time.monotonic()})

    def set_break(self, active: bool) -> None:
        """Hold the transmit line low, or end that."""
        self._command({"type": "break", "on": active})

    def send_break(self, seconds: float) -> None:
        """Hold the transmit line low for exactly ``seconds``."""
        self._command({"type": "break", "seconds": seconds}, seconds)

    def drain(self) -> None:
        """Return when everything written has left the port."""
        self._command({"type": "drain"})

    def modem_inputs(self) -> int:
        """Return the ``TIOCM_*`` bits of the port; none where it has no modem lines."""
        bits = self._command({"type": "inputs"}).get("bits")
        return bits if isinstance(bits, int) else 0

    def close(self, **report: Any) -> None:
        """Release the port; ``report`` goes along to whoever lent it. Closing twice is harmless."""
        with self._sending:
            if self._closed:
                return
            self._closed = True
        try:
            if self._unsettled:
                self._command({"type": "drain"}, longest=CLOSE_SECONDS)
            with self._sending:
                self._closing.set()
            self._command({**report, "type": "close"})
        except PortError:
            self._closing.set()
        self._fail(PortError(f"{self.name}: the port is closed"))

    def _command(self, message: Message, seconds: float = 0.0, longest: float = math.inf) -> Message:
        number = next(self._ids)
        self._send({**message, "id": number})
        # What is still on its way to the port goes first: ten bits a byte, and some leeway.
        seconds = min(longest, seconds + COMMAND_SECONDS + self._unsettled * 12 / self._baudrate)
        self._wait(lambda: number in self._answers, seconds)
        with self._condition:
            answer = self._answers.pop(number, None)
            if answer is None:
                raise self._failure or PortError(
                    f"{self.name}: {message['type']} got no answer within {seconds:.0f} s; is the host overloaded?"
                )
            self._unsettled = 0
        if answer["type"] == "error":
            raise PortError(f"{self._host}: {answer.get('message')}")
        return answer

    # The channel

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Receive until ``ready``; false when the time is up or the port is gone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._background:
            with self._condition:
                self._condition.wait_for(lambda: ready() or self._failure is not None, timeout)
                return ready()
        while not ready() and self._failure is None:
            try:
                self._receive(_LONG if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                if deadline is not None:
                    break
        return ready()

    def _receive(self, timeout: float) -> None:
        try:
            frame = self._channel.receive(timeout)
        except TimeoutError:
            raise
        except LinkError as error:
            self._fail(PortLostError(str(error)))
        else:
            self._take(frame)

    def _receive_all(self) -> None:
        while self._failure is None:
            try:
                self._receive(_LONG)
            except TimeoutError:
                continue

    def _take(self, frame: Message | bytes) -> None:
        with self._condition:
            if isinstance(frame, bytes):
                if self._dropping is None:
                    self._buffer += frame
                else:
                    self._taken += len(frame)
            else:
                self._take_message(frame)
            self._condition.notify_all()
        self._return_credit()

    def _take_message(self, message: Message) -> None:
        kind, number = message["type"], message.get("id")
        if kind == "credit":
            count = message.get("bytes")
            if not isinstance(count, int) or count < 0:
                self._fail(PortError(f"{self._host}: the agent gave {count!r:.40} bytes of credit; update both sides"))
            else:
                self._credit += count
        elif kind in ("done", "error") and isinstance(number, int):
            if number == self._dropping:
                self._dropping = None
            else:
                self._answers[number] = message
        elif kind == "error":
            self._fail(PortError(f"{self._host}: {message.get('message')}"))
        elif kind in BEYOND:
            self._fail(PortLostError(f"{self.name}: the host has taken back the port that it lent"))

    def _fail(self, error: PortError) -> None:
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _return_credit(self) -> None:
        with self._condition:
            # After "close", the other end may already listen to something else.
            if self._taken < WINDOW // 4 or self._closing.is_set():
                return
            count, self._taken = self._taken, 0
        try:
            self._send({"type": "credit", "bytes": count})
        except PortError:
            # Recorded; what was received is still to be read.
            pass

    def _send(self, frame: Message | bytes) -> None:
        with self._sending:
            self._send_locked(frame)

    def _send_locked(self, frame: Message | bytes) -> None:
        self._check()
        try:
            if isinstance(frame, bytes):
                self._channel.send_data(frame)
            else:
                self._channel.send(frame)
        except LinkError as error:
            self._fail(PortLostError(str(error)))
            self._check()

    def _beat(self) -> None:
        while not self._closing.wait(self._heartbeat):
            with self._sending:
                if self._closing.is_set():
                    return
                try:
                    self._send_locked({"type": "ping"})
                except PortError:
                    return
