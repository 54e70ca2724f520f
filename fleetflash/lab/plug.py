"""Plugging boards into a host's USB sockets: device node, udev's links, sysfs entries and modem lines.

What is plugged in is recorded beside the host (``ports.json``: board name → ``Plugged``) for as long as the host runs.
Callers hold the host's lock.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fleetflash.lab import cgroup, namespace, sysfs
from fleetflash.lab.board import Board, lines_directory
from fleetflash.lab.layout import Layout
from fleetflash.lab.namespace import Action
from fleetflash.lab.usb import CH340, Enumerated

_DIALOUT = 20
_BY_ID, _BY_PATH = "/dev/serial/by-id", "/dev/serial/by-path"


@dataclass(frozen=True)
class Plugged:
    """A port as a host has it: its device, udev's names, and the terminal behind it with its two device numbers.

    ``gone``: it is not there any more, but its number may still be taken by a program that holds it open.
    """

    tty: str
    by_id: str
    by_path: str
    terminal: str
    life: int
    numbers: tuple[int, int]
    gone: bool = False

    @property
    def lines(self) -> str:
        """Where the shim looks for the board behind this terminal."""
        device, number = self.numbers
        return f"{device:x}-{number:x}"


def ports(directory: Path) -> dict[str, str]:
    """Board name → tty of what is plugged in, in the order of plugging."""
    return {board: plugged.tty for board, plugged in _known(directory).items() if not plugged.gone}


def reset(layout: Layout, host: str) -> None:
    """Forget all ports: the host is about to start, or has ended."""
    directory = layout.host(host)
    (directory / "ports.json").unlink(missing_ok=True)
    sysfs.clear(directory / "sys")
    lines = lines_directory(layout, host)
    lines.mkdir(exist_ok=True)
    for entry in lines.iterdir():
        if entry.is_symlink():
            entry.unlink()


def prepare(directory: Path) -> list[Action]:
    """Actions that give a host, once per boot, the lab's part of /sys."""
    return [["mount", str(directory / "sys" / part), place, "ro"] for part, place in sysfs.MOUNTS.items()]


def plug(
    layout: Layout, leader: int, boards: Sequence[Board], before: Sequence[Action] = (), *, first: int = 0
) -> None:
    """Bring what a running host sees of these boards of its own up to date, in this order.

    A board that has become another USB device, or come back as the same, is a new port: it gets the lowest free
    number from ``first`` on, which is not that of its old port while a program of the host still holds that one open.
    """
    actions = list(before)
    directory = layout.host(boards[0].host.name) if boards else None
    known = _known(directory) if directory else {}
    for board in boards:
        was, now = known.pop(board.spec.name, None), board.enumerated
        if was is not None and not was.gone:
            if now is not None and (was.terminal, was.life) == (now.terminal, now.life):
                known[board.spec.name] = was
                continue
            actions += _take_away(board, was, known.values())
            was = replace(was, gone=True)
        if now is not None:
            programs = cgroup.pids(layout.cgroup(f"host.{board.host.name}"))
            old = [was] if was else []
            taken = {port.tty for port in (*known.values(), *old) if not port.gone or _held(port, programs)}
            known[board.spec.name], added = _give(board, now, taken, first)
            actions += added
        elif was is not None:
            known[board.spec.name] = was
    if actions:
        # Recorded only when it has happened: whoever tries again after a failure does all of it again.
        namespace.change(leader, actions)
    if directory:
        _record(directory, known)


def unplug(layout: Layout, leader: int | None, board: Board) -> None:
    """Pull a board out: it loses power, then its names go. Without a leader the host is not running."""
    board.cut_power()
    directory = layout.host(board.host.name)
    known = _known(directory)
    was = known.pop(board.spec.name, None)
    if was is None or was.gone:
        return
    actions = _take_away(board, was, known.values())
    _record(directory, known)
    if leader is not None:
        namespace.change(leader, actions)


def _give(board: Board, enumerated: Enumerated, taken: set[str], first: int) -> tuple[Plugged, list[Action]]:
    """The port of a device that is there now, and what makes it one inside the host."""
    prefix = board.usb("", enumerated.device).driver.prefix
    tty = next(name for number in range(first, 99) if (name := f"{prefix}{number}") not in taken)
    usb = board.usb(tty, enumerated.device)
    status = Path(enumerated.terminal).stat()
    numbers = status.st_dev, status.st_rdev
    plugged = Plugged(tty, usb.by_id, usb.by_path, enumerated.terminal, enumerated.life, numbers)
    usb.add_to(board.layout.host(board.host.name) / "sys")
    link = lines_directory(board.layout, board.host.name) / plugged.lines
    link.unlink(missing_ok=True)
    link.symlink_to(board.lines.name)
    return plugged, [
        ["mount", enumerated.terminal, f"/dev/{tty}", "rw"],
        ["own", f"/dev/{tty}", 0, _DIALOUT, 0o660],
        ["link", f"../../{tty}", f"{_BY_PATH}/{usb.by_path}"],
        # Boards without a serial number share this name: as with udev, only the last one has it.
        ["link", f"../../{tty}", f"{_BY_ID}/{usb.by_id}"],
    ]


def _take_away(board: Board, was: Plugged, others: Iterable[Plugged]) -> list[Action]:
    """Forget a port outside the host; what removes it inside."""
    board.usb(was.tty, CH340).remove_from(board.layout.host(board.host.name) / "sys")
    (lines_directory(board.layout, board.host.name) / was.lines).unlink(missing_ok=True)
    actions: list[Action] = [["remove", f"{_BY_PATH}/{was.by_path}"], ["remove", f"{_BY_ID}/{was.by_id}"]]
    if heirs := [port for port in others if port.by_id == was.by_id and not port.gone]:
        actions.append(["link", f"../../{heirs[-1].tty}", f"{_BY_ID}/{was.by_id}"])
    return [*actions, ["remove", f"/dev/{was.tty}"]]


def _held(plugged: Plugged, pids: Iterable[int]) -> bool:
    """Whether one of these processes has the port open, which may be gone by now."""
    for pid in pids:
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                status = descriptor.stat()
                if (status.st_dev, status.st_rdev) == plugged.numbers:
                    return True
        except OSError:
            continue  # it ended, or closed that file, while we looked
    return False


def _known(directory: Path) -> dict[str, Plugged]:
    try:
        found = json.loads((directory / "ports.json").read_text())
    except FileNotFoundError:
        return {}
    return {board: Plugged(**{**fields, "numbers": tuple(fields["numbers"])}) for board, fields in found.items()}


def _record(directory: Path, known: dict[str, Plugged]) -> None:
    plugged = {board: asdict(port) for board, port in known.items()}
    draft = directory / "ports.json.new"
    draft.write_text(json.dumps(plugged))
    draft.rename(directory / "ports.json")
