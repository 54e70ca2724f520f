"""The fault matrix: every fault × every step where it can strike, with the outcome written down before it runs.

A cell is data. ``expected`` is what must come of it:

- ``committed``: the board runs the new firmware,
- ``restored``: it was written and runs the former one again,
- ``untouched``: nothing was erased, it runs the former one.

Whatever comes, Klipper must be back and ready, the flash must hold exactly one of the two images, and nothing of the
guard may be left.
"""

from collections.abc import Iterator
from dataclasses import dataclass

COMMITTED, RESTORED, UNTOUCHED = "committed", "restored", "untouched"

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
#: What strikes a host, its link or its controller while the board pauses at a point.
HOST_FAULTS = [
    "agent-killed",
    "power-cut",
    "session-killed",
    "link-cut",
    "controller-SIGKILL",
    "controller-SIGINT",
    "controller-SIGTERM",
    "second-controller",
    "klipper-started-by-hand",
    "moonraker-stopped",
]
PAUSES = [("identify", 0), ("erase", 0), ("program", 0), ("program", 15000), ("verify", 15000), ("end", 0)]


@dataclass(frozen=True)
class Cell:
    """One fault at one point. ``count``: how often in a row. ``placement``: where the protocol runs."""

    fault: str
    command: str
    byte: int
    expected: str
    count: int = 1
    placement: str = "host"

    @property
    def name(self) -> str:
        times = f" x{self.count}" if self.count > 1 else ""
        where = " from the controller" if self.placement == "controller" else ""
        return f"{self.fault}{times} at {self.command}@{self.byte}{where}"


def board_cells(placement: str, faults: list[str], counts: tuple[int, ...]) -> Iterator[Cell]:
    for fault in faults:
        for command, byte in POINTS:
            for count in counts:
                yield Cell(fault, command, byte, expected_of_board(fault, command, placement), count, placement)


def expected_of_board(fault: str, command: str, placement: str) -> str:
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


def host_cells() -> Iterator[Cell]:
    for fault in HOST_FAULTS:
        for command, byte in PAUSES:
            expected = COMMITTED
            if fault in ("agent-killed", "power-cut"):
                expected = UNTOUCHED if command == "identify" else RESTORED
            yield Cell(fault, command, byte, expected)


def full() -> list[Cell]:
    """Every cell."""
    cells = [*board_cells("host", BOARD_FAULTS, (1, 2)), *host_cells()]
    cells += board_cells("controller", ["power_cut", "hang", "drop", "drop_reply", "corrupt", "garbage"], (1,))
    for fault in ("controller-SIGKILL", "link-cut", "agent-killed"):
        for command, byte in PAUSES[2:5]:
            cells.append(Cell(fault, command, byte, RESTORED, placement="controller"))
    return cells


def thinned() -> list[Cell]:
    """Every fault once, spread over the points."""
    chosen: dict[str, Cell] = {}
    cells = full()
    for number, cell in enumerate(sorted(cells, key=lambda cell: (cell.fault, cell.placement, cell.count))):
        key = f"{cell.fault} {cell.placement}"
        if key not in chosen or ((number * 7) % 5 == 0 and cell.expected == RESTORED):
            chosen[key] = cell
    return list(chosen.values())
