"""Plugging boards into a host's USB sockets: device node, udev's links, sysfs entries and modem lines.

What is plugged in is recorded beside the host (``ports.json``: board name → tty) for as long as the host runs.
Callers hold the host's lock.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from fleetflash.lab import namespace, sysfs
from fleetflash.lab.board import Board, lines_directory
from fleetflash.lab.layout import Layout
from fleetflash.lab.namespace import Action

_DIALOUT = 20
_BY_ID, _BY_PATH = "/dev/serial/by-id", "/dev/serial/by-path"


def ports(directory: Path) -> dict[str, str]:
    """Board name → tty of what is plugged in, in the order of plugging."""
    try:
        found: dict[str, str] = json.loads((directory / "ports.json").read_text())
    except FileNotFoundError:
        return {}
    return found


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
    """Plug running boards into a running host, in this order; each gets the lowest free ttyUSB from ``first`` on."""
    actions = list(before)
    for board in boards:
        directory = layout.host(board.host.name)
        known = ports(directory)
        if board.spec.name in known:
            continue
        tty = next(name for number in range(first, 99) if (name := f"ttyUSB{number}") not in known.values())
        usb = board.usb(tty)
        terminal = board.pty.resolve()
        usb.add_to(directory / "sys")
        link = _lines_link(board, terminal)
        link.unlink(missing_ok=True)
        link.symlink_to(board.lines.name)
        _record(directory, {**known, board.spec.name: tty})
        actions += [
            ["mount", str(terminal), f"/dev/{tty}", "rw"],
            ["own", f"/dev/{tty}", 0, _DIALOUT, 0o660],
            ["link", f"../../{tty}", f"{_BY_PATH}/{usb.by_path}"],
            # The name is the same for every board: as with udev, only the last one has it.
            ["link", f"../../{tty}", f"{_BY_ID}/{usb.by_id}"],
        ]
    if actions:
        namespace.change(leader, actions)


def unplug(layout: Layout, leader: int | None, board: Board) -> None:
    """Pull a board out: it loses power, then its names go. Without a leader the host is not running."""
    directory = layout.host(board.host.name)
    known = ports(directory)
    terminal = board.pty.resolve()
    if terminal.exists():
        _lines_link(board, terminal).unlink(missing_ok=True)
    board.cut_power()
    tty = known.pop(board.spec.name, None)
    if tty is None:
        return
    usb = board.usb(tty)
    usb.remove_from(directory / "sys")
    _record(directory, known)
    if leader is None:
        return
    actions: list[Action] = [["remove", f"{_BY_PATH}/{usb.by_path}"], ["remove", f"{_BY_ID}/{usb.by_id}"]]
    if known:
        actions.append(["link", f"../../{list(known.values())[-1]}", f"{_BY_ID}/{usb.by_id}"])
    actions.append(["remove", f"/dev/{tty}"])
    namespace.change(leader, actions)


def _lines_link(board: Board, terminal: Path) -> Path:
    """Where the shim looks for the board behind this terminal."""
    status = terminal.stat()
    directory = lines_directory(board.layout, board.host.name)
    return directory / f"{status.st_dev:x}-{status.st_rdev:x}"


def _record(directory: Path, known: dict[str, str]) -> None:
    (directory / "ports.json").write_text(json.dumps(known))
