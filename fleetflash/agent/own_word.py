"""What boards say themselves of what they run, where klippy does not say it for them."""

from typing import Callable, Dict, List, Set

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.patience import FORWARD_CYCLES
from fleetflash.agent.power_cycle import PowerCycle
from fleetflash.agent.schema import BoardTransaction
from fleetflash.agent.way_back import BOARD_ERRORS


class OwnWord:
    """``stop_klipper`` is called before a board is asked that klippy may be using."""

    def __init__(self, boards: Dict[str, BoardOnPort], power: PowerCycle, stop_klipper: Callable[[], None]):
        self.boards = boards
        self.power = power
        self.stop_klipper = stop_klipper

    def check(self, board: BoardOnPort) -> None:
        """Raise ``WrongFirmwareError`` unless a board runs what was written, at the latest after a power cycle."""
        self.power.retry(board.board.name, lambda: board.check_runs(board.board.wanted), FORWARD_CYCLES)

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
            if not self.power.may_help(board.name, FORWARD_CYCLES):
                continue
            self.stop_klipper()
            right = not self.wrong({board.name})
            revived |= right and not self.power.may_help(board.name, FORWARD_CYCLES)
        return revived
