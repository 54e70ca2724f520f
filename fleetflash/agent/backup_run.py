"""A transaction that reads boards and writes none: Klipper is stopped once, and each board runs afterwards what it ran.

Its guard, and what settles it after a death, are those of every transaction.
"""

from functools import partial
from typing import Dict

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.protocols.errors import CannotReadError, ProtectedError
from fleetflash.agent.record import COMMITTED, FAILED
from fleetflash.agent.transaction import Runner
from fleetflash.agent.way_back import BOARD_ERRORS

#: What becomes of a board: it was read, or it is one that can't be read at all.
BACKED_UP, UNREADABLE = "backed-up", "unreadable"


class BackupRunner(Runner):
    """A ``Runner`` whose boards keep what they have."""

    def _carry_out(self) -> str:
        self.klipper.stop()
        failed = self._read_boards()
        self.way_back.leave_bootloaders()
        read = {name for name, result in self.record.results.items() if result["result"] == BACKED_UP}
        wrong = self._start_and_check(read, alone=not failed)
        for name, error in wrong.items():
            self._fail(name, f"it was read, but since then: {error}")
            self.klipper.stop()
            self.way_back.leave_bootloader(name)
        if wrong:
            self.klipper.start()
        details = {**failed, **wrong}
        return self._finish(FAILED if details else COMMITTED, "; ".join(dict.fromkeys(details.values())))

    def _read_boards(self) -> Dict[str, str]:
        """Read every board; return, of those that could be read and were not, name → what went wrong."""
        failed: Dict[str, str] = {}
        for name, board in self.boards.items():
            try:
                self.power.retry(name, partial(self._read, name, board))
            except (CannotReadError, ProtectedError) as error:
                self.record.log("unreadable", board=name, error=str(error))
                self.record.results[name].update(result=UNREADABLE, detail=str(error))
            except BOARD_ERRORS as error:
                failed[name] = str(error)
                self._fail(name, str(error))
            else:
                self.record.results[name].update(result=BACKED_UP)
        return failed

    def _read(self, name: str, board: BoardOnPort) -> None:
        self.record.log("entering", board=name)
        with board.in_bootloader(self.record.ask(name), board.board.uid) as session:
            self.record.enrol(board.board, session.uid)
            if self.precautions.is_unfinished(session):
                raise CannotReadError(f"{name}: an earlier write was interrupted, so what it holds now is no backup")
            self.precautions.read(session)
            session.programmer.reset()
        self.record.log("left", board=name)
        if not self._checked_by_klippy(board.board):
            self.own_word.check(board)

    def _fail(self, name: str, error: str) -> None:
        self.record.log("failed", board=name, error=error)
        self.record.results[name].update(result=FAILED, detail=error)
