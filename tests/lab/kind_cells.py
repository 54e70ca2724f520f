"""The cells of boards that are no BMCU-C: for each programmer its own points, and what its protocol makes of a fault.

What sets them apart:

- The STM32's ROM and the AVR bootloaders are reached by a line of the port whatever state they are in, so what fails
  after the first erase is taken back.
- Katapult's commands are repeated: what was lost or garbled once does no harm. But no line resets the chip: a Katapult
  that hangs needs a person. So does a board that loses its power while it is written: Katapult starts
  whatever has a first word, and half an application neither runs nor makes way.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

from tests.lab.cell import ATTENTION, BACKUP, COMMITTED, IMPOSTURE, READ, RESTORE, RESTORED, UNTOUCHED, Cell
from tests.lab.kinds import KINDS, SIZE
from tests.lab.matrix import BOARD_FAULTS

MIDDLE = SIZE // 2
#: (command, byte of the application): in the order in which a transaction reaches them.
#: The STM32's first read is the question whether it is protected.
POINTS: dict[str, list[tuple[str, int]]] = {
    "stm32_rom": [
        *(("baud", 0), ("identify", 0), ("read", 0), ("erase", 0), ("program", 0), ("program", MIDDLE)),
        *(("program", SIZE - 1), ("read", MIDDLE), ("read", SIZE - 1)),
    ],
    "stk500": [
        *(("identify", 0), ("address", 0), ("program", 0), ("program", MIDDLE), ("program", SIZE - 1)),
        *(("read", 0), ("read", MIDDLE), ("end", 0)),
    ],
    "katapult": [
        *(("identify", 0), ("program", 0), ("program", MIDDLE), ("program", SIZE - 1), ("flush", 0)),
        *(("read", MIDDLE), ("end", 0)),
    ],
}
#: What takes a board's power.
POWERLESS = ("power-cut-with-boards", "unplugged-for-5-s", "back-under-another-name")
HOST_FAULTS = ("agent-killed", "power-cut", *POWERLESS)
#: Nothing of the board has been touched there; it is being written; it is being verified.
PAUSES = (("identify", 0), ("program", MIDDLE), ("read", MIDDLE))
#: Where a fault of the protocol is told by silence or noise, Katapult is asked this often.
TRIES = 3
REFUSED = 0xF2


def full() -> list[Cell]:
    """Every cell, of one bench after the other."""
    return [cell for bench in KINDS for cell in _bench(bench)]


def thinned() -> list[Cell]:
    """One cell of each bench where something must come back, in turn for the host and for the controller."""
    chosen = []
    for bench, placement in zip(KINDS, cycle(("host", "controller"))):
        cells = [cell for cell in _bench(bench) if cell.placement == placement and cell.expected == (RESTORED,)]
        chosen.append(cells[zlib.crc32(bench.encode()) % len(cells)])
    return chosen


def _bench(bench: str) -> Iterator[Cell]:
    kind = KINDS[bench]
    for cell in _cells(bench, kind.programmer):
        yield replace(cell, byte=kind.offset + cell.byte) if cell.command in ("program", "read") else cell


def _cells(bench: str, programmer: str) -> Iterator[Cell]:
    for fault in BOARD_FAULTS:
        for command, byte in POINTS[programmer]:
            if programmer == "katapult":
                expected = _of_katapult(bench, fault, command, byte)
            else:
                expected = _of_board(programmer, fault, command, byte)
            yield Cell(fault, command, byte, (expected,), bench=bench, hands=_needs_hands(programmer, fault, command))
    for fault in HOST_FAULTS:
        for command, byte in PAUSES:
            yield Cell(fault, command, byte, (_of_host(programmer, fault, command),), bench=bench)
    yield Cell("klippy-never-ready", "program", MIDDLE, (RESTORED,), bench=bench)
    yield Cell("controller-SIGKILL", "program", MIDDLE, (COMMITTED,), bench=bench)
    yield from _boot_cells(bench)
    yield from _controller_cells(bench, programmer)
    yield from _restore_cells(bench, programmer)
    if programmer == "katapult":
        for command, byte in POINTS[programmer][1:3]:
            yield Cell("drop", command, byte, (RESTORED,), TRIES, bench=bench)
            yield Cell("wrong_status", command, byte, (RESTORED,), bench=bench, status=REFUSED)
    if bench in ("stm32-rom", "optiboot"):
        yield from _unknown_cells(bench)
    if bench != "katapult-usb":
        yield from _backup_cells(bench, programmer)


def _of_board(programmer: str, fault: str, command: str, byte: int) -> str:
    """The boards that a line resets."""
    if command in ("baud", "identify", "end"):
        # Asked again, after another reset if need be; what does not leave by command leaves by its lines.
        return COMMITTED
    if (programmer, command, byte) == ("stm32_rom", "read", 0):
        # Whether the chip lets itself be read is the question, not what: AN3155 has no checksum for that.
        return COMMITTED if fault == "corrupt" else UNTOUCHED
    return RESTORED


def _of_katapult(bench: str, fault: str, command: str, byte: int) -> str:
    """The boards whose commands are sent again, and that nothing resets."""
    if fault == "hang":
        return UNTOUCHED if command == "identify" else ATTENTION
    if fault == "power_cut":
        return _of_powerless_katapult(bench, command, byte)
    if fault == "corrupt" and (command == "program" or (bench, command) == ("katapult-usb", "flush")):
        # Where the last page is written only then, it is the page that is spoiled, and not the answer.
        return RESTORED
    return COMMITTED


def _of_powerless_katapult(bench: str, command: str, byte: int) -> str:
    if (command, byte) == ("program", 0):
        # Nothing is there that Katapult would start, so it waits; on a UART it is simply asked again.
        return RESTORED if bench == "katapult-usb" else COMMITTED
    if command == "flush":
        # An RP2040 has its last page still in RAM.
        return ATTENTION if bench == "katapult-usb" else RESTORED
    return {"program": ATTENTION, "read": RESTORED}.get(command, COMMITTED)


def _needs_hands(programmer: str, fault: str, command: str) -> bool:
    return programmer == "katapult" and (fault, command) == ("hang", "identify")


def _of_host(programmer: str, fault: str, command: str) -> str:
    if command == "identify":
        # A board that leaves the bus while it is asked for its bootloader is what Katapult's programmer waits for.
        pulled = programmer == "katapult" and fault in ("unplugged-for-5-s", "back-under-another-name")
        return COMMITTED if pulled else UNTOUCHED
    return ATTENTION if programmer == "katapult" and fault in POWERLESS and command == "program" else RESTORED


def _boot_cells(bench: str) -> Iterator[Cell]:
    yield Cell("refuse_bootloader", "boot", 0, (COMMITTED,), bench=bench)
    yield Cell("refuse_bootloader", "boot", 0, (UNTOUCHED,), 1000, bench=bench)
    yield Cell("boot_loop", "boot", 0, (COMMITTED,), 5, bench=bench, new_only=True)
    yield Cell("other_version", "boot", 0, (RESTORED,), 1000, bench=bench, new_only=True)
    yield Cell("power_cut", "klipper", 0, (COMMITTED,), bench=bench, new_only=True)


def _controller_cells(bench: str, programmer: str) -> Iterator[Cell]:
    """The host settles what a controller that writes the board itself can't finish."""
    loss = COMMITTED if programmer == "katapult" else RESTORED
    for command in ("program", "read"):
        yield Cell("drop", command, MIDDLE, (loss,), bench=bench, placement="controller")
    yield Cell("corrupt", "program", MIDDLE, (RESTORED,), bench=bench, placement="controller")
    for fault in ("controller-SIGKILL", "agent-killed"):
        for command, byte in PAUSES[1:]:
            yield Cell(fault, command, byte, (RESTORED,), bench=bench, placement="controller")


def _restore_cells(bench: str, programmer: str) -> Iterator[Cell]:
    """The new firmware is not what was meant, and the way back from it is struck."""
    points = [("agent-killed", *point) for point in PAUSES]
    points += [("power-cut", *point) for point in PAUSES[1:]]
    points += [(fault, *PAUSES[1]) for fault in ("power-cut-with-boards", "controller-SIGKILL", "disk-full")]
    for fault, command, byte in points:
        stuck = programmer == "katapult" and fault in POWERLESS and command == "program"
        expected = (ATTENTION if stuck else RESTORED,)
        yield Cell(fault, command, byte, expected, bench=bench, job=RESTORE, failure=IMPOSTURE)


def _backup_cells(bench: str, programmer: str) -> Iterator[Cell]:
    """A board that is read keeps what it runs, whatever happens to the reading."""
    for fault in ("power_cut", "drop", "hang", "garbage"):
        # Katapult is asked again.
        again = programmer == "katapult" and fault in ("drop", "garbage")
        hands = programmer == "katapult" and fault == "hang"
        yield Cell(fault, "read", MIDDLE, (READ if again else UNTOUCHED,), bench=bench, job=BACKUP, hands=hands)
    for fault in ("agent-killed", "power-cut"):
        yield Cell(fault, "read", MIDDLE, (UNTOUCHED,), bench=bench, job=BACKUP)
    for fault in ("controller-SIGKILL", "link-stalled"):
        yield Cell(fault, "read", MIDDLE, (READ,), bench=bench, job=BACKUP)


def _unknown_cells(bench: str) -> Iterator[Cell]:
    """What the board runs is read first, and is its way back."""
    yield Cell("hang", "read", MIDDLE, (UNTOUCHED,), bench=bench, read_back=True)
    for fault in ("power_cut", "drop", "corrupt"):
        yield Cell(fault, "read", MIDDLE, (UNTOUCHED,), bench=bench, read_back=True)
        yield Cell(fault, "program", MIDDLE, (RESTORED,), bench=bench, read_back=True)
    yield Cell("agent-killed", "read", MIDDLE, (UNTOUCHED,), bench=bench, read_back=True)
    yield Cell("power-cut", "program", MIDDLE, (RESTORED,), bench=bench, read_back=True)
