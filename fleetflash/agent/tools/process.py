"""A flash tool's process, seen from the agent: calls go in, results come out, and silence has an end."""

import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, List, Protocol, Tuple

from fleetflash.agent import wire
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, VerifyError
from fleetflash.agent.tools import messages
from fleetflash.agent.tools.messages import Message

#: (phase, done, total)
Report = Callable[[str, int, int], None]

#: A tool that says nothing for this long, in seconds, hangs: erasing a whole flash takes less.
SILENCE = 180.0
_END_SECONDS = 5.0
_KEPT_LINES = 3


class Tool(Protocol):
    """Something that carries calls out."""

    def call(self, operation: str, data: bytes = b"", report: Report = ..., **arguments: Any) -> Tuple[Message, bytes]:
        """Return the result and its bytes; raises ``ProtocolError`` or ``PortError``."""

    def close(self) -> None:
        """End it."""


def nothing(phase: str, done: int, total: int) -> None:
    """Report to nobody."""


def raise_failure(name: str, result: Message) -> None:
    """Raise what a result says went wrong, if anything did."""
    if result.get("ok"):
        return
    kind, text = result.get("kind"), f"{name}: {result.get('error', 'no reason given')}"
    if kind == messages.PORT:
        raise PortError(text)
    raise {
        messages.SILENT: NoAnswerError,
        messages.MISMATCH: VerifyError,
        messages.PROTECTED: ProtectedError,
    }.get(str(kind), ProtocolError)(text)


class ToolProcess:
    """``command`` is started as it is; ``name`` is the port's, for messages. Its standard error is kept."""

    def __init__(self, command: List[str], name: str):
        self.name = name
        # In memory: a disk that is full must not keep a board from its way back.
        self._errors = os.fdopen(os.memfd_create("fleetflash-tool"), "w+b")
        # The agent itself may be a zip file, which Python takes for a directory of modules.
        home = str(Path(__file__).parents[3])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": home, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def call(
        self, operation: str, data: bytes = b"", report: Report = nothing, **arguments: Any
    ) -> Tuple[Message, bytes]:
        try:
            for message in messages.call(operation, data, arguments):
                self._send(message)
            pieces: List[Message] = []
            while True:
                message = self._receive()
                if message["type"] == "progress":
                    report(str(message["phase"]), int(message["done"]), int(message["total"]))
                elif message["type"] == "piece":
                    pieces.append(message)
                else:
                    raise_failure(self.name, message)
                    return message, messages.joined(pieces)
        except (BrokenPipeError, wire.WireError):
            raise ProtocolError(f"{self.name}: esptool ended: {self._last_words()}") from None

    def close(self) -> None:
        """The end of its input ends it; what does not end is killed."""
        for stream in (self._stdin, self._stdout):
            try:
                stream.close()
            except OSError:
                pass
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                pass  # it waits for its device, inside the kernel; nobody can do more
        self._errors.close()

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process.stdout is not None
        return self._process.stdout  # type: ignore[return-value]

    def _send(self, message: Message) -> None:
        rest = memoryview(wire.encode_json(message))
        descriptor = self._stdin.fileno()
        os.set_blocking(descriptor, False)
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        while rest:
            if not poller.poll(SILENCE * 1000):
                self._process.kill()
                raise NoAnswerError(f"{self.name}: esptool takes nothing for {SILENCE:g} s and was ended")
            rest = rest[os.write(descriptor, rest) :]

    def _receive(self) -> Message:
        kind, length = wire.parse_header(self._read(wire.HEADER_SIZE))
        payload = self._read(length)
        if kind != wire.JSON:
            raise wire.WireError("expected a message, got bytes")
        return wire.decode_json(payload)

    def _read(self, size: int) -> bytes:
        data = b""
        deadline = time.monotonic() + SILENCE
        descriptor = self._stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while len(data) < size:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self._process.kill()
                raise NoAnswerError(f"{self.name}: esptool says nothing for {SILENCE:g} s and was ended")
            piece = os.read(descriptor, size - len(data))
            if not piece:
                raise wire.WireError("the tool has ended")
            data += piece
        return data

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines()]
        return " / ".join([line for line in lines if line][-_KEPT_LINES:]) or "it said nothing"
