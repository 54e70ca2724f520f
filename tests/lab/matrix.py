"""The fault matrix: every fault × every step where it can strike, with the outcome written down before it runs."""

import zlib
from collections.abc import Iterator, Sequence

from tests.lab import restore_cells
from tests.lab.cell import (
    ATTENTION,
    COMMITTED,
    COMPATIBLE,
    EXACT,
    FAR,
    FLASH,
    LOST,
    PLAIN,
    RECOVERY,
    RESTORED,
    ROLLBACK,
    UNTOUCHED,
    Cell,
)
from tests.lab.strikes import STRIKES

#: (command of the board's bootloader, flash byte that it is about): in the order in which a transaction reaches them.
POINTS: list[tuple[str, int]] = [
    ("identify", 0),
    ("config", 0),
    ("baud", 0),
    ("erase", 0),
    ("key", 0),
    ("program", 0),
    ("program", 15000),
    ("program", 30700),
    ("verify", 0),
    ("verify", 15000),
    ("verify", 30700),
    ("end", 0),
]
BOARD_FAULTS = ["power_cut", "hang", "drop", "drop_reply", "wrong_status", "corrupt", "garbage"]
PAUSES = [("identify", 0), ("erase", 0), ("program", 0), ("program", 15000), ("verify", 15000), ("end", 0)]

#: What strikes a host, its link or its controller while the board pauses at a point, and what must come of it where
#: the board has not been touched yet, where it is being written, and where it has been verified.
HOST_FAULTS: dict[str, tuple[str, str, str]] = {
    "agent-killed": (UNTOUCHED, RESTORED, RESTORED),
    "power-cut": (UNTOUCHED, RESTORED, RESTORED),
    "power-cut-with-boards": (UNTOUCHED, RESTORED, RESTORED),
    "host-reboots": (UNTOUCHED, RESTORED, RESTORED),
    "unplugged-for-5-s": (UNTOUCHED, RESTORED, RESTORED),
    "back-under-another-name": (UNTOUCHED, RESTORED, RESTORED),
    "klippy-never-ready": (RESTORED, RESTORED, RESTORED),
    "session-killed": (COMMITTED, COMMITTED, COMMITTED),
    "link-stalled": (COMMITTED, COMMITTED, COMMITTED),
    "controller-SIGKILL": (COMMITTED, COMMITTED, COMMITTED),
    "controller-SIGINT": (COMMITTED, COMMITTED, COMMITTED),
    "controller-SIGTERM": (COMMITTED, COMMITTED, COMMITTED),
    "second-controller-plans": (COMMITTED, COMMITTED, COMMITTED),
    "second-controller-flashes": (COMMITTED, COMMITTED, COMMITTED),
    "klipper-started-by-hand": (COMMITTED, COMMITTED, COMMITTED),
    "port-opened-by-a-user": (COMMITTED, COMMITTED, COMMITTED),
    "moonraker-stopped": (COMMITTED, COMMITTED, COMMITTED),
    "moonraker-hangs": (COMMITTED, COMMITTED, COMMITTED),
    "disk-full": (COMMITTED, COMMITTED, COMMITTED),
    "clock-a-month-ahead": (COMMITTED, COMMITTED, COMMITTED),
    "clock-a-month-back": (COMMITTED, COMMITTED, COMMITTED),
}


def board_cells(placement: str, faults: Sequence[str], counts: Sequence[int]) -> Iterator[Cell]:
    for fault in faults:
        for command, byte in POINTS:
            for count in counts:
                yield Cell(fault, command, byte, (expected_of_board(fault, command),), count, placement)


def expected_of_board(fault: str, command: str) -> str:
    """What must come of a fault of the board, by what the protocol allows at that point."""
    if command in ("identify", "config"):
        # Asked again until the bootloader answers sensibly; a chip id that isn't the board's is never written to.
        return UNTOUCHED if (fault, command) == ("wrong_status", "identify") else COMMITTED
    if command == "end":
        # The image is verified by then: what does not reset by command is reset by its lines.
        return COMMITTED
    if (fault, command) == ("wrong_status", "baud"):
        # 0xFE is the honest answer of a bootloader that knows no other rate.
        return COMMITTED
    return RESTORED


def impostor_cells() -> Iterator[Cell]:
    """Another chip, or another board of the same kind, answers on the port."""
    for placement in ("host", "controller"):
        for command in ("identify", "config"):
            for count in (1, 1000):
                yield Cell("impostor", command, 0, (UNTOUCHED,), count, placement)


def boot_cells() -> Iterator[Cell]:
    """What goes wrong between reset and the first words with klippy."""
    # Tried again a few times; a bootloader that never comes leaves the board as it was.
    yield Cell("refuse_bootloader", "boot", 0, (COMMITTED,), 1)
    yield Cell("refuse_bootloader", "boot", 0, (UNTOUCHED,), 1000)
    # A few restarts are waited for.
    yield Cell("boot_loop", "boot", 0, (COMMITTED,), 5, new_only=True)
    yield Cell("boot_loop", "boot", 0, (RESTORED,), 100000, new_only=True)
    for count in (1, 1000):
        yield Cell("other_version", "boot", 0, (RESTORED,), count, new_only=True)
    # klippy repeats what gets lost.
    for fault in ("drop", "garbage"):
        yield Cell(fault, "klipper", 0, (COMMITTED,), 2, new_only=True)
        yield Cell(fault, "klipper", 0, (RESTORED,), 100000, new_only=True)
    yield Cell("hang", "klipper", 0, (RESTORED,), new_only=True)
    yield Cell("power_cut", "klipper", 0, (COMMITTED,), new_only=True)


def expected_of_host(fault: str, command: str) -> str:
    before, writing, after = HOST_FAULTS[fault]
    return before if command == "identify" else after if command == "end" else writing


def host_cells() -> Iterator[Cell]:
    for fault in HOST_FAULTS:
        for command, byte in PAUSES:
            yield Cell(fault, command, byte, (expected_of_host(fault, command),))
    # It takes systemd's patience twice.
    yield Cell("klipper-does-not-start", "program", 15000, (RESTORED,))


def controller_cells() -> Iterator[Cell]:
    """The host settles what a controller that writes the board itself can't finish."""
    yield from board_cells("controller", ["power_cut", "hang", "drop", "drop_reply", "corrupt", "garbage"], (1,))
    for fault in ("controller-SIGKILL", "link-stalled", "agent-killed"):
        for command, byte in PAUSES[2:5]:
            yield Cell(fault, command, byte, (RESTORED,), placement="controller")


def pair_cells() -> Iterator[Cell]:
    """Two boards: with policy exact they go back together, with compatible each stands for itself."""
    for bench, neighbour in ((EXACT, RESTORED), (COMPATIBLE, COMMITTED)):
        for fault in ("power_cut", "hang", "wrong_status", "corrupt"):
            for command, byte in (("program", 15000), ("verify", 15000)):
                yield Cell(fault, command, byte, (neighbour, RESTORED), bench=bench)
        yield Cell("impostor", "identify", 0, (neighbour, UNTOUCHED), 1000, bench=bench)
        yield Cell("refuse_bootloader", "boot", 0, (neighbour, UNTOUCHED), 1000, bench=bench)
        yield Cell("other_version", "boot", 0, (neighbour, RESTORED), 1, bench=bench, new_only=True)
        yield Cell("hang", "klipper", 0, (neighbour, RESTORED), bench=bench, new_only=True)
        for fault in ("agent-killed", "power-cut", "power-cut-with-boards"):
            # Nobody could ask the neighbour what it runs before the death.
            yield Cell(fault, "program", 15000, (RESTORED, RESTORED), bench=bench)
        for fault in ("controller-SIGKILL", "session-killed", "link-stalled"):
            yield Cell(fault, "program", 15000, (COMMITTED, COMMITTED), bench=bench)


def far_cells() -> Iterator[Cell]:
    for fault in ("session-killed", "link-stalled", "controller-SIGKILL", "agent-killed", "power-cut"):
        for command, byte in (("program", 15000), ("end", 0)):
            yield Cell(fault, command, byte, (expected_of_host(fault, command),), bench=FAR)
    for fault in ("power_cut", "drop"):
        yield Cell(fault, "verify", 15000, (RESTORED,), bench=FAR)


def lost_cells() -> Iterator[Cell]:
    yield Cell("drop", "identify", 0, (COMMITTED,), bench=LOST)
    yield Cell("impostor", "identify", 0, (UNTOUCHED,), bench=LOST)
    for fault in ("wrong_status", "power_cut"):
        yield Cell(fault, "program", 15000, (ATTENTION,), bench=LOST)
    yield Cell("agent-killed", "program", 15000, (ATTENTION,), bench=LOST)


def rollback_cells() -> Iterator[Cell]:
    """A rollback is a transaction as any other; what it holds must be what it has brought back."""
    for fault in ("power_cut", "wrong_status", "corrupt"):
        for command in ("erase", "program", "verify", "end"):
            yield Cell(fault, command, 0, (expected_of_board(fault, command),), job=ROLLBACK)
    yield Cell("other_version", "boot", 0, (RESTORED,), 1, new_only=True, job=ROLLBACK)
    yield Cell("klippy-never-ready", "program", 15000, (RESTORED,), job=ROLLBACK)
    yield Cell("hang", "klipper", 0, (RESTORED,), new_only=True, job=ROLLBACK)
    for fault in ("agent-killed", "power-cut", "controller-SIGKILL", "link-stalled", "disk-full"):
        for command, byte in (("identify", 0), ("program", 15000), ("end", 0)):
            yield Cell(fault, command, byte, (expected_of_host(fault, command),), job=ROLLBACK)
    for bench, neighbour in ((EXACT, RESTORED), (COMPATIBLE, COMMITTED)):
        for fault in ("power_cut", "wrong_status"):
            yield Cell(fault, "program", 15000, (neighbour, RESTORED), bench=bench, job=ROLLBACK)
        yield Cell("controller-SIGKILL", "program", 15000, (COMMITTED, COMMITTED), bench=bench, job=ROLLBACK)


def recovery_cells() -> Iterator[Cell]:
    """What has died is settled by the next run; what strikes that is settled by the one after it, or by the host."""
    for fault in ("power_cut", "drop", "wrong_status", "corrupt"):
        for command in ("erase", "program", "verify"):
            yield Cell(fault, command, 0, (RESTORED,), job=RECOVERY)
    for fault in ("agent-killed", "power-cut", "controller-SIGKILL", "link-stalled"):
        for command, byte in (("identify", 0), ("program", 15000)):
            yield Cell(fault, command, byte, (RESTORED,), job=RECOVERY)


def full() -> list[Cell]:
    """Every cell."""
    return [
        *board_cells("host", BOARD_FAULTS, (1, 2)),
        *impostor_cells(),
        *boot_cells(),
        *host_cells(),
        *controller_cells(),
        *pair_cells(),
        *far_cells(),
        *lost_cells(),
        *rollback_cells(),
        *restore_cells.full(),
        *recovery_cells(),
    ]


def thinned() -> list[Cell]:
    """Every fault of a board once, every strike for host and controller, every bench; spread over the points."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in full():
        fault = "" if cell.bench != PLAIN or cell.job != FLASH else cell.fault
        placement = "" if fault and fault not in STRIKES else cell.placement
        bench = {FLASH: cell.bench, ROLLBACK: f"{cell.bench} back"}.get(cell.job, f"{cell.bench} {cell.job}")
        groups.setdefault((fault, placement, bench), []).append(cell)
    chosen = []
    for key, cells in groups.items():
        hard = [cell for cell in cells if RESTORED in cell.expected or ATTENTION in cell.expected] or cells
        start = zlib.crc32(" ".join(key).encode())
        wanted = 1 if key[0] or hard[0].job != FLASH else 2
        chosen += [hard[(start + 5 * number) % len(hard)] for number in range(wanted)]
    return chosen
