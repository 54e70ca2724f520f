"""How DTR and RTS reach a chip's reset pin: held by a level, or tipped by an edge through a capacitor."""

import time
from typing import Protocol

from fleetflash.lab.boards.loop import Loop, Timer
from fleetflash.lab.boards.modem import LINES, Wiring

RESET_FILTER = 0.005  # seconds: the capacitor at the reset pin swallows shorter pulses


class Chip(Protocol):
    """The side that is reset."""

    def hold_in_reset(self) -> None:
        """Reset is low: nothing runs."""

    def release_reset(self) -> None:
        """Reset is high again: the chip looks at its boot pin and starts."""


class ResetPin(Protocol):
    """What stands between the modem lines and the reset pin of a board that has power."""

    holding: bool

    def power_on(self, bits: int) -> bool:
        """Whether the lines hold the chip in reset as power comes."""

    def power_off(self) -> None:
        """Nothing is held, nothing is timed any more."""

    def asked(self, bits: int) -> bool:
        """Whether the lines ask for the bootloader."""

    def changed(self, bits: int, chip: Chip) -> None:
        """The lines have new levels."""


class NoReset:
    """Lines that lead nowhere: only buttons and the firmware itself reset the board."""

    holding = False

    def power_on(self, _bits: int) -> bool:
        return False

    def power_off(self) -> None:
        pass

    def asked(self, _bits: int) -> bool:
        return False

    def changed(self, _bits: int, _chip: Chip) -> None:
        pass


class LevelReset:
    """One line holds the chip in reset, the other one pulls its boot pin."""

    def __init__(self, loop: Loop, wiring: Wiring) -> None:
        self.holding = False
        self._loop = loop
        self._wiring = wiring
        self._timer: Timer | None = None

    def power_on(self, bits: int) -> bool:
        self.holding = self._wiring.reset_held(bits)
        return self.holding

    def power_off(self) -> None:
        self.holding = False
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def asked(self, bits: int) -> bool:
        return self._wiring.boot_asked(bits)

    def changed(self, bits: int, chip: Chip) -> None:
        if self._wiring.reset_held(bits):
            if not self.holding and self._timer is None:
                self._timer = self._loop.at(time.monotonic() + RESET_FILTER, lambda _due: self._hold(chip))
            return
        if self._timer:
            # Released: whether it was long enough is a question of time, not of which event came first.
            timer, self._timer = self._timer, None
            timer.cancel()
            if time.monotonic() < timer.due:
                return
            self.holding = True
        if self.holding:
            self.holding = False
            chip.release_reset()

    def _hold(self, chip: Chip) -> None:
        self._timer = None
        self.holding = True
        chip.hold_in_reset()


class EdgeReset:
    """A capacitor between DTR and reset, as on Arduino boards: asserting the line makes one short pulse."""

    holding = False

    def __init__(self, line: str = "dtr") -> None:
        self._bit = LINES[line]
        self._level = False

    def power_on(self, bits: int) -> bool:
        self._level = bool(bits & self._bit)
        return False

    def power_off(self) -> None:
        pass

    def asked(self, _bits: int) -> bool:
        return False

    def changed(self, bits: int, chip: Chip) -> None:
        level, self._level = self._level, bool(bits & self._bit)
        if self._level and not level:
            chip.hold_in_reset()
            chip.release_reset()
