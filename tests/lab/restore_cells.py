"""The cells of restores: a flash fails, its way back begins, and then the host, its link or its controller is struck.

Faults of the board that strike its restore, too, are the cells of flashes whose fault comes twice.
"""

from collections.abc import Iterator

from tests.lab.cell import (
    COMMITTED,
    COMPATIBLE,
    EXACT,
    FAR,
    IMPOSTURE,
    MISMATCH,
    PLAIN,
    RECOVERY,
    RESTORE,
    RESTORED,
    ROLLBACK,
    SILENCE,
    Cell,
)

#: What a restore does, in this order; the last one is the former firmware's own word that it runs again.
POINTS = [
    *(("identify", 0), ("erase", 0), ("program", 0), ("program", 15000), ("verify", 15000), ("end", 0)),
    ("klipper", 0),
]
MIDDLE = ("program", 15000)
#: What ends the agent in the middle, so that its guard or the next boot has to settle.
DEADLY = ("agent-killed", "power-cut", "power-cut-with-boards", "host-reboots")
#: What the agent lives through. (A second controller would see what comes after the restore, and flash once more.)
ELSE = (
    *("unplugged-for-5-s", "back-under-another-name", "klippy-never-ready", "session-killed", "link-stalled"),
    *("controller-SIGKILL", "controller-SIGINT", "controller-SIGTERM"),
    *("klipper-started-by-hand", "port-opened-by-a-user", "moonraker-stopped", "moonraker-hangs", "disk-full"),
    *("clock-a-month-ahead", "clock-a-month-back"),
)


def full() -> list[Cell]:
    """Every cell."""
    return [*_plain_cells(), *_pair_cells(), *_far_cells(), *_rollback_cells(), *_recovery_cells()]


def _plain_cells() -> Iterator[Cell]:
    for fault in DEADLY:
        for command, byte in POINTS:
            yield _cell(fault, command, byte)
    for fault in ELSE:
        for command, byte in (MIDDLE, ("end", 0)):
            yield _cell(fault, command, byte)
    for command, byte in POINTS[:2]:
        yield _cell("disk-full", command, byte)
    # klippy has been ready with the new firmware by then.
    for fault in ("agent-killed", "power-cut", "controller-SIGKILL", "link-stalled", "disk-full"):
        for command, byte in (("identify", 0), MIDDLE, ("end", 0)):
            yield _cell(fault, command, byte, failure=IMPOSTURE)
    for fault in ("agent-killed", "power-cut"):
        yield _cell(fault, *MIDDLE, failure=SILENCE)
    for fault in ("agent-killed", "controller-SIGKILL", "link-stalled"):
        yield _cell(fault, *MIDDLE, placement="controller")


def _pair_cells() -> Iterator[Cell]:
    """With policy exact the neighbour has gone back by then; with compatible it has been written, and not asked yet."""
    for fault in ("agent-killed", "power-cut", "power-cut-with-boards"):
        for command, byte in (("identify", 0), MIDDLE, ("end", 0)):
            for bench in (EXACT, COMPATIBLE):
                yield _cell(fault, command, byte, (RESTORED, RESTORED), bench=bench)
        # By klippy, the neighbour has. But nobody has committed it.
        yield _cell(fault, *MIDDLE, (RESTORED, RESTORED), bench=COMPATIBLE, failure=IMPOSTURE)
    for fault in ("controller-SIGKILL", "session-killed", "disk-full"):
        yield _cell(fault, *MIDDLE, (RESTORED, RESTORED), bench=EXACT)
        yield _cell(fault, *MIDDLE, (COMMITTED, RESTORED), bench=COMPATIBLE)


def _far_cells() -> Iterator[Cell]:
    for fault in ("session-killed", "link-stalled", "controller-SIGKILL", "agent-killed", "power-cut"):
        yield _cell(fault, *MIDDLE, bench=FAR)


def _rollback_cells() -> Iterator[Cell]:
    """A rollback that has failed goes forward again, and holds nothing."""
    for fault in ("agent-killed", "power-cut", "controller-SIGKILL", "disk-full"):
        yield Cell(fault, *MIDDLE, (RESTORED,), job=ROLLBACK, failure=MISMATCH)


def _recovery_cells() -> Iterator[Cell]:
    """Neither guard nor boot could settle the restore that has died; the next run begins it anew, and is struck."""
    for fault in ("power_cut", "wrong_status", "agent-killed", "power-cut", "controller-SIGKILL"):
        yield Cell(fault, *MIDDLE, (RESTORED,), job=RECOVERY, failure=MISMATCH)


def _cell(
    fault: str,
    command: str,
    byte: int,
    expected: tuple[str, ...] = (RESTORED,),
    *,
    bench: str = PLAIN,
    placement: str = "host",
    failure: str = MISMATCH,
) -> Cell:
    return Cell(fault, command, byte, expected, placement=placement, bench=bench, job=RESTORE, failure=failure)
