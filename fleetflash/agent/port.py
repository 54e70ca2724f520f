"""What a flash protocol needs of a serial port, wherever the port is."""

from typing import List, Optional, Protocol, Tuple

#: One step of a modem line sequence: DTR, RTS (``None`` = leave as it is), then a pause in seconds.
LineStep = Tuple[Optional[bool], Optional[bool], float]


class PortError(Exception):
    """The port can't be used: absent, held by another process, gone, or refused. The message names the port."""


class PortAbsentError(PortError):
    """There is no port because nothing runs that would offer one: the board itself says nothing."""


class Port(Protocol):
    """A byte stream with a baud rate and two modem lines; local (``ports.SerialPort``) or remote (``link.port``).

    ``name`` is for messages. ``address``: by which a program beside this one opens it, a device or a pyserial URL;
    empty when none can.
    """

    name: str
    address: str

    def read(self, size: int, timeout: float) -> bytes:
        """Return as soon as ``size`` bytes are there, or what came within ``timeout`` seconds (maybe nothing)."""

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``; returns before it is on the wire."""

    def discard_input(self) -> None:
        """Drop every byte received and not yet read."""

    def set_baudrate(self, baudrate: int) -> None:
        """Send what is written, then switch to ``baudrate`` bit/s; eight data bits, one stop bit, parity as it was."""

    def set_parity(self, parity: str) -> None:
        """Send what is written, then switch to parity ``N``one (as a port is opened), ``E``ven or ``O``dd."""

    def play(self, steps: List[LineStep]) -> None:
        """Run a DTR/RTS sequence with exact timing, beside the port. Lines that a port lacks are ignored."""

    def close(self) -> None:
        """Release the port. Closing twice is harmless."""
