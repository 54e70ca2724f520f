"""What a program running on the chip sees of the board around it."""

from collections.abc import Callable
from typing import Protocol

from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.loop import Loop


class Counters:
    """Commands that were executed since the board was plugged in, for tests that count."""

    def __init__(self) -> None:
        self.erases = 0
        self.programs = 0
        self.verifies = 0
        self.resets = 0


class Circuit(Protocol):
    """The pins and the power supply."""

    loop: Loop
    faults: Faults
    counters: Counters

    def send(self, data: bytes, baud: int, at: float) -> float:
        """Transmit; returns when the last bit is out."""

    def software_reset(self, at: float) -> None:
        """Reset the chip once everything transmitted is out, and not before ``at``."""

    def power_cut(self) -> None:
        """The supply fails now."""

    def stall(self, go_on: Callable[[], None] | None) -> None:
        """The program stands still: until ``resume`` calls ``go_on``, or for ever when there is none."""

    def log(self, text: str) -> None:
        """One line for the ``--log`` file."""


class Program(Protocol):
    """What runs on the chip: a bootloader or the application."""

    parity: Parity

    def receive(self, data: bytes, baud: int, at: float) -> None:
        """Bytes whose last bit arrived at ``at``, sent at ``baud``."""

    def stop(self) -> None:
        """Reset or power off: RAM is gone, nothing may happen any more."""
