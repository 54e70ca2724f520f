"""A program written top-down: a generator that reads bytes, waits, and sends, on the board's event loop."""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.faults import Fault
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.line import same_rate
from fleetflash.lab.boards.loop import Timer

NOISE = bytes(range(0x80, 0x90))


class Silence(Exception):
    """No byte has come for as long as the program waits for one."""


@dataclass(frozen=True)
class Read:
    """Go on when ``count`` bytes are there; after ``patience`` seconds without a byte, with ``Silence``."""

    count: int
    patience: float | None = None


@dataclass(frozen=True)
class Wait:
    """Be busy for some seconds, deaf but for what the UART itself keeps."""

    seconds: float


@dataclass(frozen=True)
class Stand:
    """Stand still: until the operator resumes, or for ever."""

    resumable: bool = False


T = TypeVar("T")
Steps = Generator[Read | Wait | Stand, bytes, T]


@dataclass(frozen=True)
class Verdict:
    """How a command fares: without a fault it is executed and answered."""

    fault: Fault | None = None

    @property
    def kind(self) -> str:
        return self.fault.kind if self.fault else ""

    @property
    def executes(self) -> bool:
        return self.kind not in ("wrong_status", "drop", "garbage")

    @property
    def cut(self) -> int | None:
        """The flash byte at which power fails."""
        return self.fault.byte if self.fault and self.kind == "power_cut" else None

    def spoil(self, start: int, data: bytes) -> bytes:
        """The data to program, with one bit flipped at the fault's byte when it is to be corrupted silently."""
        if self.fault is None or self.kind != "corrupt" or not data:
            return data
        at = min(max(0, (self.fault.byte or 0) - start), len(data) - 1)
        return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


class Script(ABC):
    """One run of a program from reset to reset; ``main`` is what it does.

    ``baud`` is the rate it listens and sends at, None while it takes any. ``fifo`` bytes outlast a ``Wait``.
    ``now`` is the time, on the clock of ``time.monotonic``, up to which it has worked.
    """

    parity = Parity.NONE
    baud: int | None = None
    fifo = 2

    def __init__(self, circuit: Circuit, started: float) -> None:
        self.circuit = circuit
        self.now = started
        self._steps = self.main()
        self._buffer = bytearray()
        self._last_byte = started
        self._need: Read | None = None
        self._stopped = False
        self._timer: Timer | None = circuit.loop.at(started, lambda _due: self._advance())

    @abstractmethod
    def main(self) -> Steps[None]:
        """The program; when it returns, it hears nothing any more."""

    # For main

    def read(self, count: int, patience: float | None = None) -> Steps[bytes]:
        return (yield Read(count, patience))

    def byte(self, patience: float | None = None) -> Steps[int]:
        return (yield Read(1, patience))[0]

    def send(self, data: bytes) -> float:
        """Transmit; returns when the last bit is out."""
        return self.circuit.send(data, self.baud or 115200, self.now)

    def obey(self, command: str, start: int | None = None, length: int = 0) -> Steps[Verdict]:
        """Ask before executing a command that has arrived: what may go wrong, goes wrong here.

        ``command`` is one of ``faults.COMMANDS``; ``start``, ``length``: the flash bytes it covers.
        """
        fault = self.circuit.faults.take(command, start, length)
        if fault is None:
            return Verdict()
        self.circuit.log(f"fault {fault.kind} at {command} {'' if start is None else hex(start)}".rstrip())
        if fault.kind == "hang":
            yield Stand()
        if fault.kind == "pause":
            yield Stand(resumable=True)
            return Verdict()
        if fault.kind == "power_cut" and (fault.byte is None or command not in ("program", "erase")):
            yield from self.lose_power()
        return Verdict(fault)

    def answer(self, verdict: Verdict, frame: bytes, refusal: bytes, *, spoils_data: bool = False) -> None:
        """Send ``frame``, or what the fault makes of it; ``refusal`` is the frame for a wrong status.

        A command whose data was spoiled (``spoils_data``) is answered as if nothing had happened.
        """
        if verdict.kind in ("drop", "drop_reply"):
            return
        if verdict.kind == "garbage":
            frame = NOISE
        elif verdict.kind == "wrong_status":
            frame = refusal
        elif verdict.kind == "corrupt" and not spoils_data:
            frame = frame[:-1] + bytes([frame[-1] ^ 0xFF])
        self.send(frame)

    def lose_power(self) -> Steps[None]:
        self.circuit.power_cut()
        yield Stand()

    # Program

    def stop(self) -> None:
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def hears(self, baud: int) -> bool:
        """Whether bytes at this rate are understood; at another one a UART sees framing errors."""
        return self.baud is None or same_rate(baud, self.baud)

    def receive(self, data: bytes, baud: int, at: float) -> None:
        if self._stopped or not data or not self.hears(baud):
            return
        self._last_byte = at
        self._buffer += data
        if self._need is None:
            # Busy: the UART keeps what it has room for, the rest overruns.
            del self._buffer[self.fifo :]
        elif len(self._buffer) >= self._need.count:
            self._advance(self._take(self._need.count))
        else:
            self._arm(self._need)

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.now = max(self.now, self._last_byte)
        return data

    def _advance(self, value: bytes | None = None, error: Exception | None = None) -> None:
        if self._timer:
            self._timer.cancel()
        self._need = None
        while not self._stopped:
            try:
                step = self._steps.throw(error) if error else self._steps.send(value)  # type: ignore[arg-type]
            except StopIteration:
                self._stopped = True
                return
            value, error = None, None
            if isinstance(step, Read):
                if len(self._buffer) < step.count:
                    self._need = step
                    self._arm(step)
                    return
                value = self._take(step.count)
            elif isinstance(step, Wait):
                self._timer = self.circuit.loop.at(self.now + step.seconds, self._waited)
                return
            else:
                if not self._stopped:
                    self.circuit.stall(self._resume if step.resumable else None)
                return

    def _waited(self, due: float) -> None:
        self.now = due
        self._advance()

    def _resume(self) -> None:
        self.now = max(self.now, time.monotonic())
        self._advance()

    def _arm(self, read: Read) -> None:
        if self._timer:
            self._timer.cancel()
        if read.patience is not None:
            due = max(self.now, self._last_byte) + read.patience
            self._timer = self.circuit.loop.at(due, self._silent)

    def _silent(self, due: float) -> None:
        self.now = due
        self._advance(error=Silence())
