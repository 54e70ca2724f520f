"""How long a board that resists its way back is tried, and so how long a settling may take."""

from typing import Optional

from fleetflash.agent.acceptance.contract import POWER_CYCLE
from fleetflash.agent.schema import BoardTransaction, Power, Transaction

#: A port that is gone gets this long to come back, in seconds: after a boot, or while a USB hub settles.
PORT_SECONDS = 30.0
#: A board that resists is tried again: a power dip or a replugged cable passes.
RESTORE_ATTEMPTS = 4
#: Seconds between two attempts.
RESTORE_PAUSE = 2.0
#: No settling gets less than this, in seconds, and none less than its boards need and this spare.
LEAST_SECONDS, SPARE_SECONDS = 300.0, 60.0

#: A board is switched off and on again so often in one transaction at most, on its way forward and on its way back. A
#: contract may ask for more on the way forward.
FORWARD_CYCLES, BACK_CYCLES = 1, 1
#: How long it stays off, in seconds: what is stored in its capacitors must be gone.
OFF_SECONDS = 10.0
#: Switching on is tried so often, with this pause in seconds: nothing may stay switched off.
ON_ATTEMPTS, ON_PAUSE = 3, 2.0


def forward_cycles(board: BoardTransaction) -> int:
    """Return how often a board may be switched off and on until it runs what is wanted."""
    return max(FORWARD_CYCLES, board.retry.attempts - 1 if board.retry.recovery == POWER_CYCLE else 0)


def most_cycles(board: BoardTransaction) -> int:
    """Return how often a board may be switched off and on in all."""
    return forward_cycles(board) + BACK_CYCLES


def cycle_seconds(power: Optional[Power]) -> float:
    """Return how long switching off and on again may take, in seconds; 0 for a board that nobody can switch."""
    if power is None:
        return 0.0
    if power.gesture:
        return power.seconds
    return power.seconds + OFF_SECONDS + ON_ATTEMPTS * (power.seconds + ON_PAUSE)


def settle_seconds(transaction: Transaction) -> float:
    """Return how long a settling may take, in seconds, before whoever waits for it gives up.

    Every attempt may take what the plan expects of a whole restore, after waiting for a port that is gone. A board may
    be switched off and on again meanwhile, and on once more if a death has left it off; klippy's objects may be waited
    for.
    """
    absent = RESTORE_ATTEMPTS * (PORT_SECONDS + RESTORE_PAUSE) * len(transaction.boards)
    power = sum((most_cycles(board) + 1) * cycle_seconds(board.power) for board in transaction.boards)
    checked = transaction.checks or any(board.checks for board in transaction.boards)
    objects = transaction.checks_seconds if checked else 0.0
    attempts = (RESTORE_ATTEMPTS + 1) * transaction.restore_seconds
    return max(LEAST_SECONDS, attempts + absent + power + objects + SPARE_SECONDS)
