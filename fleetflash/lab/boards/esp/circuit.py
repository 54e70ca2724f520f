"""What a program running on an ESP chip sees of the board around it."""

from collections.abc import Callable, Generator
from typing import Protocol

from fleetflash.lab.boards.circuit import Counters
from fleetflash.lab.boards.esp.messages import Answer
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.loop import Loop

#: Work that takes time: yields the seconds of each step after which the next is taken.
Steps = Generator[float, None, None]
#: The same with an answer at its end.
Job = Generator[float, None, Answer]


class EspCircuit(Protocol):
    """The pins, the power supply and the chip's reset."""

    loop: Loop
    faults: Faults
    counters: Counters

    def send(self, data: bytes, baud: int, at: float) -> float:
        """Transmit; returns when the last bit is out."""

    def restart(self, cause: int, at: float) -> None:
        """Reset the chip once everything transmitted is out, and not before ``at``.

        What starts is what the strapping pins asked for when EN was released: they are read only then.
        """

    def run_user_code(self, at: float) -> None:
        """Leave download mode without a reset of the pins: start what is in flash."""

    def power_cut(self) -> None:
        """The supply fails now."""

    def stall(self, go_on: Callable[[], None] | None) -> None:
        """The program stands still: until ``resume`` calls ``go_on``, or for ever when there is none."""

    def log(self, text: str) -> None:
        """One line for the ``--log`` file."""
