"""What boards say themselves of what they run, where klippy does not say it for them."""

import time
from typing import Callable, Dict, List, Set

from fleetflash.agent.acceptance.contract import POWER_CYCLE, Retry
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.power_cycle import NOT_BACK, PowerCycle
from fleetflash.agent.schema import BoardTransaction
from fleetflash.agent.way_back import BOARD_ERRORS


class OwnWord:
    """``stop_klipper`` is called before a board is asked that klippy may be using."""

    def __init__(self, boards: Dict[str, BoardOnPort], power: PowerCycle, stop_klipper: Callable[[], None]):
        self.boards = boards
        self.power = power
        self.stop_klipper = stop_klipper

    def check(self, board: BoardOnPort) -> None:
        """Raise ``WrongFirmwareError`` unless a board runs what was written.

        A board that is silent, or whose boot is rejected, is asked as often as its contract allows, and once more if
        its power can be cycled then.
        """
        retry = board.board.retry
        attempt, of = 1, retry.attempts
        while True:
            try:
                board.check_runs(board.board.wanted, attempt, of)
                return
            except NOT_BACK as error:
                if not self._recover(board.board.name, error, retry, attempt):
                    raise type(error)(f"{error} (in {attempt} attempts)" if attempt > 1 else str(error)) from None
            attempt += 1
            of = max(of, attempt)

    def _recover(self, name: str, error: Exception, retry: Retry, attempt: int) -> bool:
        """Do what there is between two attempts; whether there is another one."""
        more = attempt < retry.attempts
        if not more or retry.recovery == POWER_CYCLE:
            more |= self.power.helps(name, error, forward=True)
        if more:
            time.sleep(retry.pause)
        return more

    def wrong(self, names: Set[str]) -> Dict[str, str]:
        """Ask boards on their ports what they run; return name → what is wrong. Klipper must be stopped."""
        failed = {}
        for name in sorted(names):
            try:
                self.check(self.boards[name])
            except BOARD_ERRORS as error:
                failed[name] = str(error)
        return failed

    def revive(self, boards: List[BoardTransaction]) -> bool:
        """Ask those boards that can be power-cycled; whether it has made one run what was written.

        Klipper is stopped for that, and left so.
        """
        revived = False
        for board in boards:
            if not self.power.may_help(board.name, forward=True):
                continue
            self.stop_klipper()
            before = self.power.times(board.name)
            right = not self.wrong({board.name})
            revived |= right and self.power.times(board.name) > before
        return revived
