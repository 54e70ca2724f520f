"""What a controller may tell a served port, as tasks that the server carries on: the commands of ``serve``."""

import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from fleetflash.agent import wire
from fleetflash.agent.ports import SerialPort

_LONGEST_PAUSE = 10.0
#: No clock that counts seconds is later; what floats can't hold is far beyond.
_LATEST = 1e12

Message = Dict[str, Any]
#: A command in progress: yields ``None`` to have the port drained, or the moment at which it goes on.
Task = Iterator[Optional[float]]


class Commands:
    """``answer`` tells the controller how the current command ended.

    ``closed``: its ``close``, or a flash tool's ``result``, once it came; ``pieces`` came before that.
    """

    def __init__(self, port: SerialPort, answer: Callable[[Message], None]) -> None:
        self._port = port
        self._answer = answer
        self._lines_changed: Optional[Tuple[float, float]] = None
        self.closed: Optional[Message] = None
        self.pieces: List[Message] = []

    def carry_out(self, message: Message) -> Task:
        """Yield what the server must wait for; raises ``PortError``, and ``WireError`` for what is no command."""
        kind = message["type"]
        commands: Dict[str, Callable[[Message], Task]] = {
            "baudrate": self._baudrate,
            "parity": self._parity,
            "lines": self._lines,
            "play": self._play,
            "break": self._break,
            "drain": self._drain_output,
            "discard_input": self._discard_input,
            "inputs": self._inputs,
            "close": self._close,
            "piece": self._piece,
            "result": self._result,
        }
        if kind not in commands:
            raise wire.WireError(f"unknown command {kind!r}")
        yield from commands[kind](message)

    def _baudrate(self, message: Message) -> Task:
        yield None
        self._port.set_baudrate(int(number(message, "value", 2**31)))
        self._answer({"type": "done"})

    def _parity(self, message: Message) -> Task:
        yield None
        self._port.set_parity(str(message.get("value")))
        self._answer({"type": "done"})

    def _lines(self, message: Message) -> Task:
        yield None
        if "at" in message:
            # The network may bunch what was sent apart, but a reset pulse must not get shorter by it.
            at = float(number(message, "at", _LATEST))
            if self._lines_changed is not None:
                sent, done = self._lines_changed
                yield done + min(max(0.0, at - sent), _LONGEST_PAUSE)
            self._lines_changed = (at, time.monotonic())
        self._port.set_lines(_flag(message.get("dtr")), _flag(message.get("rts")))
        self._answer({"type": "done"})

    def _play(self, message: Message) -> Task:
        steps = _steps(message.get("steps"))
        yield None
        for dtr, rts, pause in steps:
            self._port.set_lines(dtr, rts)
            yield time.monotonic() + pause
        self._answer({"type": "done"})

    def _break(self, message: Message) -> Task:
        yield None
        if "on" in message:
            self._port.set_break(message["on"] is True)
        else:
            self._port.set_break(True)
            yield time.monotonic() + number(message, "seconds", _LONGEST_PAUSE)
            self._port.set_break(False)
        self._answer({"type": "done"})

    def _drain_output(self, message: Message) -> Task:
        yield None
        self._answer({"type": "done"})

    def _discard_input(self, message: Message) -> Task:
        self._port.discard_input()
        self._answer({"type": "done"})
        return iter(())

    def _inputs(self, message: Message) -> Task:
        self._answer({"type": "done", "bits": self._port.modem_inputs()})
        return iter(())

    def _close(self, message: Message) -> Task:
        yield None
        self._answer({"type": "done"})
        self.closed = message

    def _piece(self, message: Message) -> Task:
        self.pieces.append(message)
        return iter(())

    def _result(self, message: Message) -> Task:
        self.closed = message
        return iter(())


def number(message: Message, key: str, largest: float) -> Any:
    """Return a field that must be a number from 0 to ``largest``; raises ``WireError``."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= largest:
        raise wire.WireError(f"{message['type']}: {key} is {value!r:.80}, expected a number from 0 to {largest:g}")
    return value


def _flag(value: Any) -> Optional[bool]:
    return value if isinstance(value, bool) else None


def _steps(value: Any) -> List[Tuple[Optional[bool], Optional[bool], float]]:
    try:
        steps = [(_flag(dtr), _flag(rts), float(pause)) for dtr, rts, pause in value]
    except (TypeError, ValueError, OverflowError):
        raise wire.WireError(f"play: {value!r:.80} is not a list of [dtr, rts, seconds]") from None
    if any(not 0 <= pause <= _LONGEST_PAUSE for _, _, pause in steps):
        raise wire.WireError(f"play: a pause is not between 0 and {_LONGEST_PAUSE:g} s")
    return steps
