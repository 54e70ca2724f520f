"""What every programmer is: a way to bring one kind of bootloader up, read it, write it and leave it again."""

from dataclasses import dataclass, field
from typing import Callable, Mapping, Protocol, Tuple

from fleetflash.agent.port import Port
from fleetflash.agent.schema import Entry
from fleetflash.agent.tools.process import Tool

#: Called with (bytes done, bytes in all).
Progress = Callable[[int, int], None]
#: Called with (gesture, seconds) when a person has to act now.
Ask = Callable[[str, float], None]
#: Opens the board's port anew, by its name, once it is there; raises ``PortError``. A board on native USB changes its
#: device node when it changes between application and bootloader.
Reopen = Callable[[], Port]


@dataclass(frozen=True)
class Pace:
    """What flashing costs, for estimates.

    ``baudrate``: of the line in bit/s, with ``bits`` a byte. ``chunk``: image bytes per step; ``overhead``: bytes on
    the line per step beside the image, both ways; ``trips``: round trips a step. ``busy``: seconds that the flash needs
    per step of the write. ``fixed``: seconds for entering the bootloader and leaving it. ``passes``: how often an image
    crosses the line: twice where verifying means sending or reading it again.
    """

    baudrate: int
    chunk: int
    overhead: int
    fixed: float
    trips: int = 1
    bits: int = 10
    busy: float = 0.0
    passes: int = 2

    def seconds(self, size: int, round_trip: float) -> float:
        """Estimate how long ``size`` bytes take when every answer comes ``round_trip`` seconds late."""
        steps = -(-size // self.chunk)
        line = self.passes * steps * (self.chunk + self.overhead) * self.bits / self.baudrate
        return self.fixed + line + steps * self.busy + self.passes * steps * self.trips * round_trip

    def reading(self, size: int, round_trip: float) -> float:
        """Estimate how long it takes to read ``size`` bytes."""
        steps = -(-size // self.chunk)
        return steps * (self.chunk + self.overhead) * self.bits / self.baudrate + steps * self.trips * round_trip


@dataclass(frozen=True)
class Capabilities:
    """What a programmer can do.

    ``read_back``: whether an unprotected chip's code flash can be read. ``entries``: the ways into the bootloader, as
    ``schema.Entry.method``; the first is the usual one. ``wired``: whether DTR and RTS reset the chip and raise BOOT0,
    so that ``Entry.wiring`` means something. ``quiet``: seconds of silence that a board needs after its port was
    opened, since that resets it and whatever is sent then keeps its bootloader waiting. ``moves``: whether a board on
    USB has other USB ids, and so another by-id name, in its bootloader. ``tells_uid``: whether its bootloader or its
    USB serial number tells a board's unique id; ``uid_by_usb``: only the latter; ``uid_when_protected``: whether a
    read-protected chip's is told, too. ``connection``: how the board is reached, one of ``port_names.FORMS``.
    ``options``: what the inventory may set beside the fields of every board, with the defaults. ``parts``: whether an
    image is an archive of ``flash_parts`` for the whole flash. ``tool``: whether a program that the host may lack does
    the work, which the controller can then run over the port. ``klipper``: whether such a board runs Klipper, and so
    can be asked what it runs. ``baudrate``: at which its firmware usually talks, in bit/s.
    """

    read_back: bool
    entries: Tuple[str, ...]
    pace: Pace
    wired: bool = False
    quiet: float = 0.0
    moves: bool = False
    parts: bool = False
    tool: bool = False
    klipper: bool = True
    baudrate: int = 250_000
    tells_uid: bool = True
    uid_by_usb: bool = False
    uid_when_protected: bool = True
    connection: str = "serial"
    options: Mapping[str, str] = field(default_factory=dict)

    def backup(self, protected: bool, known_good: bool) -> str:
        """Say what a board's way back can be: ``read-back``, ``known-good only`` or ``none``.

        + protected: whether the chip is read-protected
        + known_good: whether an image that the board is known to have run is at hand
        """
        if self.read_back and not protected:
            return "read-back"
        return "known-good only" if known_good else "none"


@dataclass(frozen=True)
class Target:
    """Where in a chip's flash the application belongs.

    ``base``: the absolute address of the flash; ``offset``: of the application in it, behind a bootloader; ``size``:
    bytes that the application may have. ``baudrate``: the application's, in bit/s. ``options``: those of
    ``Capabilities.options`` that are set. ``wiring``: of DTR and RTS as far as it is known, as in ``Entry``.
    """

    base: int = 0
    offset: int = 0
    size: int = 0
    baudrate: int = 250000
    options: Mapping[str, str] = field(default_factory=dict)
    wiring: str = ""

    @property
    def start(self) -> int:
        """The application's absolute address."""
        return self.base + self.offset


@dataclass(frozen=True)
class Found:
    """What a bootloader says that it is, e.g. ``19:31`` for WCH's device type 0x19, chip id 0x31.

    ``uid`` is hexadecimal, and empty where the protocol has none.
    """

    chip_id: str
    uid: str
    protected: bool = False


class Programmer(Protocol):
    """One board on one open port. Every method raises ``ProtocolError`` or a subclass when the board objects.

    ``port`` is the port as it is now: entering or leaving a bootloader on native USB opens it anew.
    """

    port: Port
    capabilities: Capabilities

    def enter(self, entry: Entry, ask: Ask) -> None:
        """Bring the board into its bootloader; nothing of its flash changes."""

    def probe(self) -> Found:
        """Say what is there."""

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        """Lift a read protection, which erases the chip, and be in the bootloader again. Only when the user asked."""

    def read(self, progress: Progress) -> bytes:
        """Return the application's flash without the erased blocks at its end.

        Raises ``CannotReadError`` where the bootloader has no such command, ``ProtectedError`` on a protected chip.
        """

    def write(self, image: bytes, progress: Progress) -> None:
        """Erase and program; raises ``ProtectedError`` on a protected chip."""

    def verify(self, image: bytes, progress: Progress) -> None:
        """Compare the flash with ``image``; raises ``VerifyError`` with the address."""

    def reset(self) -> None:
        """Leave the bootloader and start the application."""

    def leave(self) -> None:
        """As ``reset`` when the board is in its bootloader; otherwise nothing."""


class ToolProgrammer(Programmer, Protocol):
    """One whose capabilities say ``tool``: a program does the work.

    ``start_tool`` has such a program take the open port over; the controller's does it where the host has none.
    """

    start_tool: Callable[[Port], Tool]
