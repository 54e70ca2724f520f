"""What a chip outside of download mode does with its serial port: it prints line by line, and listens to nobody."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleetflash.lab.boards.esp.circuit import EspCircuit
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.loop import Timer

BAUD = 115200


@dataclass(frozen=True)
class Line:
    """``text`` starts at least ``delay`` seconds after the line before it started."""

    text: str
    delay: float = 0.0


@dataclass(frozen=True)
class Script:
    """Lines from a reset on; then nothing more, or a reset by ``restart`` (a cause) after ``pause`` seconds."""

    lines: Sequence[Line]
    restart: int | None = None
    pause: float = 0.0


class Console:
    """Prints a script. Input is lost."""

    parity = Parity.NONE

    def __init__(self, circuit: EspCircuit, script: Script, started: float) -> None:
        self._circuit = circuit
        self._script = script
        self._timer: Timer | None = None
        self._print(0, started, started)

    def receive(self, data: bytes, baud: int, at: float) -> None:
        """Nobody reads it."""

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _print(self, number: int, before: float, free: float) -> None:
        """Schedule a line; ``before``: when the one before it started, ``free``: when the line is idle again."""
        if number < len(self._script.lines):
            due = max(before + self._script.lines[number].delay, free)
            self._timer = self._circuit.loop.at(due, lambda at: self._send(number, at))
        elif (cause := self._script.restart) is not None:
            self._timer = self._circuit.loop.at(free + self._script.pause, lambda at: self._circuit.restart(cause, at))

    def _send(self, number: int, at: float) -> None:
        text = self._script.lines[number].text
        self._print(number + 1, at, self._circuit.send(text.encode() + b"\r\n", BAUD, at))
