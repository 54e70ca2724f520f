"""A board that does not come back is switched off and on again, if its inventory says how, before it is given up.

Source of the pause: the operators' rollback procedure, step "stop": off, 10 s, then on again.
"""

import time
from typing import Callable, Dict

from fleetflash.agent import patience, power_supply
from fleetflash.agent.board import BoardOnPort, SilentFirmwareError
from fleetflash.agent.history import left_off, power_cycles, power_troubles
from fleetflash.agent.port import PortAbsentError
from fleetflash.agent.power_supply import PowerError
from fleetflash.agent.protocols.errors import NoAnswerError
from fleetflash.agent.record import Record
from fleetflash.agent.schema import Power

#: What a board says, or rather does not say, that may be well once it was without power.
NOT_BACK = (NoAnswerError, PortAbsentError, SilentFirmwareError)
_LOOK_SECONDS = 0.2


class PowerCycle:
    """For the boards of one transaction. Klipper must be stopped. Everything is in its journal, before it is done."""

    def __init__(self, record: Record, boards: Dict[str, BoardOnPort]):
        self.record = record
        self.boards = boards
        self._begun: Dict[str, int] = {}

    def times(self, name: str) -> int:
        """Return how often a board was switched off and on in this transaction."""
        # The journal knows of those before a death, and may be full.
        return max(power_cycles(self.record.entries()).get(name, 0), self._begun.get(name, 0))

    def may_help(self, name: str, forward: bool = False) -> bool:
        """Whether a board can be switched, and was not so often already as it may be.

        ``forward``: it is on its way to what is wanted, which leaves some for its way back.
        """
        board = self.boards[name].board
        most = patience.forward_cycles(board) if forward else patience.most_cycles(board)
        return board.power is not None and self.times(name) < most

    def helps(self, name: str, error: Exception, forward: bool = False) -> bool:
        """Whether a board that did not come back was switched off and on, so that it is worth another attempt."""
        power = self.boards[name].board.power
        if power is None or not isinstance(error, NOT_BACK) or not self.may_help(name, forward):
            return False
        self._begun[name] = self._begun.get(name, 0) + 1
        self.record.log("power-cycling", board=name, reason=str(error))
        try:
            self._cycle(name, power)
        except (PowerError, OSError) as trouble:
            self.record.log("power-failed", board=name, error=str(trouble))
            return False
        self.record.log("power-cycled", board=name)
        return True

    def retry(self, name: str, action: Callable[[], None]) -> None:
        """Do something with a board; once more if a power cycle helps. Raises what the last attempt has raised."""
        try:
            action()
        except NOT_BACK as error:
            if not self.helps(name, error):
                raise
            action()

    def told(self, name: str, error: str) -> str:
        """Return what went wrong with a board, and why no power cycle could mend it, where one was tried."""
        trouble = power_troubles(self.record.entries()).get(name)
        if not trouble or trouble in error:
            return error
        return f"{error}. Its power could not be cycled: {trouble}"

    def switch_on(self) -> None:
        """Switch on what a death has left switched off."""
        for name in sorted(left_off(self.record.entries())):
            power = self.boards[name].board.power
            assert power is not None
            try:
                self._on(name, power)
            except PowerError as error:
                self.record.log("power-failed", board=name, error=str(error))

    def _cycle(self, name: str, power: Power) -> None:
        if power.gesture:
            self._ask(name, power)
            return
        self.record.log("power-off", board=name)
        try:
            power_supply.switch(self.boards[name].board, power, False, self.record.transaction.id)
        except PowerError:
            self._on(name, power)  # it may be off all the same
            raise
        time.sleep(patience.OFF_SECONDS)
        self._on(name, power)

    def _on(self, name: str, power: Power) -> None:
        problem = ""
        for attempt in range(patience.ON_ATTEMPTS):
            if attempt:
                time.sleep(patience.ON_PAUSE)
            try:
                power_supply.switch(self.boards[name].board, power, True, self.record.transaction.id)
            except PowerError as error:
                problem = str(error)
            else:
                self.record.log("power-on", board=name)
                return
        raise PowerError(f"{problem}; it may be switched off still: switch it on by hand")

    def _ask(self, name: str, power: Power) -> None:
        """Wait until the board's port has gone and come back; for one that stays, until the person's time is over."""
        self.record.ask(name)(f"{power.gesture} (off, {patience.OFF_SECONDS:.0f} s, on again)", power.seconds)
        deadline, gone = time.monotonic() + power.seconds, False
        while time.monotonic() < deadline:
            there = self.boards[name].is_there()
            if there and gone:
                return
            gone = gone or not there
            time.sleep(_LOOK_SECONDS)
