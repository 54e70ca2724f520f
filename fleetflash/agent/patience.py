"""How long a board that resists its way back is tried, and so how long a settling may take."""

from fleetflash.agent.schema import Transaction

#: A port that is gone gets this long to come back, in seconds: after a boot, or while a USB hub settles.
PORT_SECONDS = 30.0
#: A board that resists is tried again: a power dip or a replugged cable passes.
RESTORE_ATTEMPTS = 4
#: Seconds between two attempts.
RESTORE_PAUSE = 2.0
#: No settling gets less than this, in seconds, and none less than its boards need and this spare.
LEAST_SECONDS, SPARE_SECONDS = 300.0, 60.0


def settle_seconds(transaction: Transaction) -> float:
    """Return how long a settling may take, in seconds, before whoever waits for it gives up.

    Every attempt may take what the plan expects of a whole restore, after waiting for a port that is gone.
    """
    absent = RESTORE_ATTEMPTS * (PORT_SECONDS + RESTORE_PAUSE) * len(transaction.boards)
    return max(LEAST_SECONDS, (RESTORE_ATTEMPTS + 1) * transaction.restore_seconds + absent + SPARE_SECONDS)
