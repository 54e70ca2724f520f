"""How each kind of board is brought into its bootloader, written and checked, all behind one small interface."""

import itertools
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Protocol, Tuple

from fleetflash.agent.port import LineStep, Port
from fleetflash.agent.protocols import wch_isp
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError
from fleetflash.agent.schema import Entry

#: Called with (bytes done, bytes in all).
Progress = Callable[[int, int], None]
#: Called with (gesture, seconds) when a person has to act now.
Ask = Callable[[str, float], None]


@dataclass(frozen=True)
class Found:
    """What a bootloader says that it is, e.g. ``19:31`` for WCH's device type 0x19, chip id 0x31.

    ``uid`` is hexadecimal, and empty where the protocol has none.
    """

    chip_id: str
    uid: str
    protected: bool = False


class Programmer(Protocol):
    """One board on one open port. Every method raises ``ProtocolError`` or a subclass when the board objects."""

    def enter(self, entry: Entry, ask: Ask) -> None:
        """Bring the board into its bootloader; nothing of its flash changes."""

    def probe(self) -> Found:
        """Say what is there."""

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        """Lift a read protection, which erases the chip, and be in the bootloader again. Only when the user asked."""

    def write(self, image: bytes, progress: Progress) -> None:
        """Erase and program; raises ``ProtectedError`` on a protected chip."""

    def verify(self, image: bytes, progress: Progress) -> None:
        """Compare the flash with ``image``."""

    def reset(self) -> None:
        """Leave the bootloader and start the application."""

    def leave(self) -> None:
        """As ``reset`` when the board is in its bootloader; otherwise nothing."""


class WchIspProgrammer:
    """CH32V203 through its factory bootloader. Code flash can't be read back: the way back must be known."""

    DEFAULT_GESTURE = "hold B (BOOT0), tap R (RESET), then let go of B"

    def __init__(self, port: Port):
        self.port = port
        self.isp = wch_isp.WchIsp(port)
        self.chip: Optional[wch_isp.Chip] = None
        self.wiring = ""

    def enter(self, entry: Entry, ask: Ask) -> None:
        self.wiring = entry.wiring
        if self._is_in_bootloader():
            return
        if entry.method == "lines":
            self._enter_by_lines(entry)
        elif entry.method == "button":
            self._enter_by_hand(entry, ask)
        else:
            raise NoAnswerError(f"{self.port.name}: no WCH bootloader answers, and the board has no way to enter it")

    def probe(self) -> Found:
        if self.chip is None:
            self.chip = self.isp.identify()
        chip_id = f"{self.chip.device_type:02x}:{self.chip.chip_id:02x}"
        return Found(chip_id=chip_id, uid=self.chip.uid, protected=self.chip.protected)

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        self.isp.unprotect()
        self.chip = None
        # The option bytes take effect at the reset that ends unprotect, and that starts the application.
        self.enter(entry, ask)

    def write(self, image: bytes, progress: Progress) -> None:
        if self.probe().protected:
            raise ProtectedError(
                f"{self.port.name}: the chip is read-protected; lifting that erases it, so it is done only when the "
                "inventory says so: set unprotect = True for this board"
            )
        self.isp.speed_up()
        self.isp.erase(len(image))
        self.isp.program(image, progress)

    def verify(self, image: bytes, progress: Progress) -> None:
        self.isp.verify(image, progress)

    def reset(self) -> None:
        try:
            self.isp.reset()
        except ProtocolError as error:
            # A bootloader that does not obey is reset by its lines. Without such lines, silence may mean that it has
            # restarted before it answered, as some versions do. Whether the application runs is checked anyway.
            if self.wiring:
                self.port.play(reset_sequence(self.wiring))
            elif not isinstance(error, NoAnswerError):
                raise
        self.chip = None
        self.port.set_baudrate(wch_isp.BAUDRATE)

    def leave(self) -> None:
        if self._is_in_bootloader():
            self.reset()

    def _is_in_bootloader(self) -> bool:
        """Whether a bootloader answers, at its first rate or, left by an interrupted session, at the fast one."""
        for baudrate in (wch_isp.BAUDRATE, wch_isp.FAST_BAUDRATE):
            self.port.set_baudrate(baudrate)
            if self._answers(tries=2):
                return True
        self.port.set_baudrate(wch_isp.BAUDRATE)
        return False

    def _enter_by_lines(self, entry: Entry) -> None:
        # A bootloader that is slow to start, or a board whose power dips, gets more than one chance.
        wirings = [entry.wiring] * 6 if entry.wiring else ALL_WIRINGS * 2
        for wiring in wirings:
            self.port.play(entry_sequence(wiring))
            if self._answers(tries=3 if entry.wiring else 2) and (entry.wiring or self._is_wired_as(wiring)):
                self.wiring = wiring
                return
        # Whatever the last attempt left on the lines must not hold the chip in reset.
        self.port.play([(True, True, 0.0)])
        tried = f"wiring {entry.wiring}" if entry.wiring else "all 8 wirings of DTR and RTS"
        raise NoAnswerError(
            f"{self.port.name}: the board did not enter its WCH bootloader ({tried} tried); "
            'if it has no such wiring, set entry = "button"'
        )

    def _is_wired_as(self, wiring: str) -> bool:
        """Whether ``wiring`` also leads out of the bootloader, and in again.

        Where DTR holds the chip in reset, the sequence for a reset by RTS enters too, but leaves BOOT0 raised: every
        reset would lead back into the bootloader.
        """
        self.port.play(reset_sequence(wiring))
        if self._answers(tries=2):
            return False
        self.port.play(entry_sequence(wiring))
        return self._answers(tries=3)

    def _enter_by_hand(self, entry: Entry, ask: Ask) -> None:
        ask(entry.gesture or self.DEFAULT_GESTURE, entry.deadline)
        deadline = time.monotonic() + entry.deadline
        while time.monotonic() < deadline:
            if self._answers(tries=1):
                return
        raise NoAnswerError(
            f"{self.port.name}: nobody brought the board into its bootloader within {entry.deadline:g} s"
        )

    def _answers(self, tries: int) -> bool:
        for _ in range(tries):
            try:
                self.chip = self.isp.identify(timeout=0.2)
                return True
            except ProtocolError:
                continue
        return False


PROGRAMMERS: Dict[str, Callable[[Port], Programmer]] = {"wch_isp": WchIspProgrammer}

#: The usual wiring of a BMCU-C first.
ALL_WIRINGS = [
    f"reset={reset}:{reset_level},boot={boot}:{boot_level}"
    for (reset, boot), reset_level, boot_level in itertools.product((("rts", "dtr"), ("dtr", "rts")), (0, 1), (0, 1))
]


def entry_sequence(wiring: str) -> List[LineStep]:
    """Return the DTR/RTS steps that reset a chip with BOOT0 raised, then let go of both.

    ``wiring`` is ``reset=LINE:LEVEL,boot=LINE:LEVEL``: the level (1 = asserted) of DTR or RTS at which the chip is
    held in reset, and the level at which BOOT0 is high. Raises ``ValueError`` for anything else.
    """
    reset_line, reset_level, boot_line, boot_level = _parse_wiring(wiring)

    def levels(reset: bool, boot: bool) -> Tuple[bool, bool]:
        lines = {reset_line: reset_level == reset, boot_line: boot_level == boot}
        return lines["dtr"], lines["rts"]

    return [
        (*levels(reset=False, boot=True), 0.01),
        (*levels(reset=True, boot=True), 0.02),
        (*levels(reset=False, boot=True), 0.05),
        (*levels(reset=False, boot=False), 0.0),
    ]


def reset_sequence(wiring: str) -> List[LineStep]:
    """Return the DTR/RTS steps that reset a chip into its application; ``wiring`` as for ``entry_sequence``."""
    reset_line, reset_level, _, boot_level = _parse_wiring(wiring)

    def levels(reset: bool) -> Tuple[bool, bool]:
        held, idle = reset_level == reset, not boot_level
        return (held, idle) if reset_line == "dtr" else (idle, held)

    return [(*levels(reset=True), 0.02), (*levels(reset=False), 0.0)]


def _parse_wiring(wiring: str) -> Tuple[str, bool, str, bool]:
    try:
        parts = dict(item.split("=") for item in wiring.split(","))
        reset_line, reset_level = parts["reset"].split(":")
        boot_line, boot_level = parts["boot"].split(":")
        if {reset_line, boot_line} != {"dtr", "rts"} or not {reset_level, boot_level} <= {"0", "1"}:
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(f"wiring {wiring!r}: expected e.g. 'reset=rts:0,boot=dtr:0'") from None
    return reset_line, reset_level == "1", boot_line, boot_level == "1"
