"""The configuration files that a simulated printer starts with."""

from collections.abc import Sequence

from fleetflash.lab import sysfs
from fleetflash.lab.boards.kinds import KINDS
from fleetflash.lab.spec import BoardSpec

PRINT_FILE = "lab-print.gcode"
# One-second dwells: a print that needs no motors and lasts until it is stopped.
PRINT_GCODE = "; a long print of nothing\n" + "G4 P1000\n" * 36000


def socket_of(boards: Sequence[BoardSpec], board: BoardSpec) -> int:
    """The USB socket a board sits in."""
    return board.socket or boards.index(board) + 1


def board_path(boards: Sequence[BoardSpec], board: BoardSpec) -> str:
    """The name of a board's port below /dev/serial/by-path."""
    return sysfs.by_path(socket_of(boards, board), driver_of(board))


def driver_of(board: BoardSpec) -> sysfs.Driver:
    """What the host's kernel drives the board's port with."""
    return sysfs.CDC_ACM if KINDS[board.kind].usb else sysfs.BRIDGE


def printer_cfg(boards: Sequence[BoardSpec]) -> str:
    """A printer.cfg with one ``[mcu]`` section per board of klippy's, ports by path as CH340 boards need it."""
    sections = []
    for board in (board for board in boards if board.mcu):
        title = "mcu" if board.mcu == "mcu" else f"mcu {board.mcu}"
        sections.append(f"[{title}]\nserial: /dev/serial/by-path/{board_path(boards, board)}\n")
    sections.append("[printer]\nkinematics: none\nmax_velocity: 300\nmax_accel: 3000\n")
    sections.append("[virtual_sdcard]\npath: /home/pi/printer_data/gcodes\n")
    sections.append("[pause_resume]\n\n[display_status]\n")
    return "\n".join(sections)


def moonraker_conf(subnet: str) -> str:
    """A moonraker.conf that trusts the lab's network and leaves machine and updates alone."""
    return (
        "[server]\nhost: 0.0.0.0\nport: 7125\nklippy_uds_address: /home/pi/printer_data/comms/klippy.sock\n\n"
        f"[authorization]\ntrusted_clients:\n    127.0.0.0/8\n    {subnet}.0/24\n\n"
        "[machine]\nprovider: none\nvalidate_service: False\nvalidate_config: False\n\n"
        "[update_manager]\nenable_auto_refresh: False\nrefresh_interval: 0\n"
    )
