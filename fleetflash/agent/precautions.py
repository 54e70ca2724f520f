"""What must be done before a board may be written: the user's own command has succeeded, and its way back is kept."""

from typing import Dict

from fleetflash.agent import backup_command
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.board import Session
from fleetflash.agent.record import Record
from fleetflash.agent.schema import UNFINISHED, BoardTransaction, to_json


class Precautions:
    """For the boards of one transaction. Everything is in its journal."""

    def __init__(self, record: Record):
        self.record = record
        self.backups = Backups(record.store)

    def run_commands(self) -> Dict[str, str]:
        """Run the ``backup_command`` of every board that has one; return name → why it must not be written.

        All of them come before the first write, so that with policy ``exact`` a failure leaves every board as it is.
        """
        failed: Dict[str, str] = {}
        for board in self.record.transaction.boards:
            problem = self._run_command(board) if board.backup_command else ""
            if problem:
                failed[board.name] = problem
                self.record.log("failed", board=board.name, error=problem)
                if self.record.transaction.policy == "exact":
                    break
        return failed

    def _run_command(self, board: BoardTransaction) -> str:
        self.record.log("saving", board=board.name)
        ended = backup_command.run(board, self.record.transaction.id)
        self.record.log("saved", board=board.name, code=ended.code, seconds=ended.seconds, output=ended.output)
        return backup_command.problem(board, ended)

    def keep_way_back(self, session: Session) -> None:
        """Have a backup of what the board in ``session`` runs: read from it, or the image that the plan knows."""
        board = session.board
        if board.read_back:
            self.read(session)
        elif board.way_back is not None:
            occasion = Occasion.of(self.record.transaction, board)
            self.backups.add_known_good(board, board.way_back, session.uid, occasion)

    def read(self, session: Session) -> None:
        """Read what the board runs: nothing else could bring it back.

        What an interrupted write has left is never read for a backup; the one from before it is taken.
        """
        board = session.board
        if self.is_unfinished(session):
            found = self.backups.before_unfinished(board, session.uid)
        else:
            self.record.log("reading", board=board.name)
            data = session.read(self.record.progress(board.name))
            occasion = Occasion.of(self.record.transaction, board)
            found = self.backups.add(board, data, board.expected, session.uid, occasion)
        self.record.log("backed-up", board=board.name, image=to_json(found))

    def is_unfinished(self, session: Session) -> bool:
        """Whether the last write of the very board in ``session`` was interrupted."""
        ledger = self.record.store.ledger(session.board.name)
        same = ledger is not None and (not ledger.uid or not session.uid or ledger.uid == session.uid)
        return same and ledger is not None and ledger.image_sha256 == UNFINISHED
