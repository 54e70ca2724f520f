"""Why a chip starts, and what it does then."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from fleetflash.lab.boards.circuit import Program
from fleetflash.lab.usb import UsbDevice

BOOT_TIME = 0.010  # seconds from the release of reset to the first byte understood


class Cause(Enum):
    """Why the chip starts."""

    POWER = auto()
    PINS = auto()  # the modem lines have let go of reset
    BUTTON = auto()  # held B, tapped R: what a person does who wants the bootloader
    TAP = auto()  # tapped R alone
    SOFTWARE = auto()
    WATCHDOG = auto()


@dataclass(frozen=True)
class Boot:
    """What a chip does now: ``mode`` as status shows it, and the program, made when it starts to listen.

    ``usb``: what a chip with a USB port of its own is while that runs.
    """

    mode: str
    program: Callable[[float], Program] | None = None
    after: float = BOOT_TIME
    usb: UsbDevice | None = None


DEAD = Boot("dead")
