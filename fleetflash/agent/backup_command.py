"""A user's own command that saves something before a board is written. Without its success the board is left alone."""

import shutil

from fleetflash.agent import command
from fleetflash.agent.command import Finished
from fleetflash.agent.schema import BoardTransaction


def why_missing(board: BoardTransaction) -> str:
    """Say what keeps a board's command from being started, as far as can be seen before; empty when nothing does."""
    if not board.backup_command or shutil.which(board.backup_command[0]):
        return ""
    return (
        f"{board.name}: backup_command: {board.backup_command[0]} is no program on this host; install it, or correct "
        "backup_command in the inventory"
    )


def run(board: BoardTransaction, transaction: str) -> Finished:
    """Run a board's command to its end, or until ``backup_seconds`` are over; a program that can't start has 127."""
    return command.run(board.backup_command, board.backup_seconds, board, transaction)


def problem(board: BoardTransaction, finished: Finished) -> str:
    """Say in one line why a board must not be written after its command; empty when it has succeeded."""
    if finished.code == 0:
        return ""
    how = f"ended with exit code {finished.code}"
    if finished.code is None:
        how = f"did not end within {board.backup_seconds:g} s (backup_seconds) and was killed"
    return (
        f"{board.name}: backup_command {board.backup_command[0]} {how}, so nothing was erased; it said: "
        f"{finished.last_words}. Put it right, then run again"
    )
