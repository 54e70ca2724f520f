"""The controller's part in a flash tool that a host lacks: its process here, on the port that the host lends.

The host leads: what it sends over the session goes to the tool, what the tool answers goes back (see
``agent.tools.messages``). Here is only a pipe, and somebody to show the progress to.
"""

import importlib.metadata
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, cast

from fleetflash.agent import wire
from fleetflash.agent.tools import environment
from fleetflash.agent.tools.environment import WANTED
from fleetflash.link.errors import LinkError

Message = dict[str, Any]

#: What the host says when it is done with a tool, and what it says when it was done without a word.
LAST_WORDS = ("end", "event", "outcome", "refused")
INSTALL = "pip install 'fleetflash[esp]' in its virtualenv"
MISSING = f"no esptool on this controller; {INSTALL}"
ENDED = "the controller's esptool has ended; try it there: python -m fleetflash.link.esptool_worker test </dev/null"
_END_SECONDS = 5.0


class Session(Protocol):
    """What this module needs of ``link.session.AgentSession``."""

    def send(self, message: Message) -> None: ...
    def send_data(self, data: bytes) -> None: ...
    def receive(self, timeout: float | None) -> Message | bytes: ...


def why_no_esptool() -> str:
    """Say why esptool can't be run here; empty when it can."""
    try:
        version = importlib.metadata.version("esptool")
    except importlib.metadata.PackageNotFoundError:
        return MISSING
    return (
        "" if environment.is_known(version) else f"esptool {version} on this controller is none of {WANTED}; {INSTALL}"
    )


def serve(session: Session, name: str, on_progress: Callable[[Message], None]) -> Message:
    """Run esptool on a lent port until the host ends it; return the message that came then.

    + name: ``host:device``, for messages

    Raises ``LinkError`` when the session is lost; the tool is ended in any case.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-m", "fleetflash.link.esptool_worker", name]
            end = theirs.fileno()
            tool = subprocess.Popen(command, stdin=end, stdout=end, stderr=subprocess.DEVNULL)
        over = threading.Event()
        answers = threading.Thread(target=_answer, args=(ours, session, on_progress, over), daemon=True)
        answers.start()
        try:
            while True:
                message = session.receive(None)
                if isinstance(message, dict) and message["type"] in LAST_WORDS:
                    return message
                try:
                    ours.sendall(_frame(message))
                except OSError:
                    _excuse(session, message)
        finally:
            over.set()
            ours.shutdown(socket.SHUT_RDWR)
            answers.join(_END_SECONDS)
            try:
                tool.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                tool.kill()
                tool.wait()


def _answer(
    tool: socket.socket, session: Session, on_progress: Callable[[Message], None], over: threading.Event
) -> None:
    """Carry what the tool says to the host, but for its progress; tell when it dies before it is ``over``."""
    stream = cast(BinaryIO, tool.makefile("rb", buffering=0))
    try:
        while (frame := wire.read_frame(stream)) is not None:
            kind, payload = frame
            if kind == wire.DATA:
                session.send_data(payload)
                continue
            message = wire.decode_json(payload)
            if message["type"] == "progress":
                on_progress(message)
            else:
                session.send(message)
    except LinkError:
        return  # the other direction tells
    except (OSError, wire.WireError):
        pass
    try:
        # A call that it has taken is answered by nobody else, and a printer would stand still until it is given up.
        if not over.is_set():
            session.send(_ended())
    except LinkError:
        pass


def _excuse(session: Session, message: Message | bytes) -> None:
    """A tool that has died answers no call."""
    if isinstance(message, dict) and message["type"] == "call":
        session.send(_ended())


def _ended() -> Message:
    return {"type": "result", "ok": False, "kind": "tool", "error": ENDED}


def _frame(message: Message | bytes) -> bytes:
    return wire.encode(wire.DATA, message) if isinstance(message, bytes) else wire.encode_json(message)
