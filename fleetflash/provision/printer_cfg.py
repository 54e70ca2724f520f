"""What of a printer's configuration follows from its boards. The rest of it is the user's.

Source of sections and options: Klipper ``docs/Config_Reference.md``, "[mcu]" and "Additional mcus", "[include]".
"""

import re
from collections.abc import Sequence

from fleetflash.agent.protocols.port_names import can_parts
from fleetflash.boards import PROGRAMMERS, Board

#: The file beside printer.cfg that is fleetflash's, and the line that printer.cfg has for it.
FILE = "fleetflash-mcus.cfg"
INCLUDE = f"[include {FILE}]"
#: As a regular expression for grep.
INCLUDE_PATTERN = rf"^\[include {re.escape(FILE)}\]"
#: Klipper's own.
DEFAULT_BAUD = 250000


def mcu_sections(boards: Sequence[Board]) -> str:
    """Return the file with an ``[mcu …]`` section for each board that Klipper knows."""
    parts = ["# Written by fleetflash from the inventory: changes here are lost. printer.cfg is yours."]
    for board in boards:
        if board.klippy_mcu is None:
            continue
        title = "mcu" if board.klippy_mcu == "mcu" else f"mcu {board.klippy_mcu}"
        parts.append("\n".join([f"# {board.name} ({board.chip})", f"[{title}]", *_connection(board)]))
    return "\n\n".join(parts) + "\n"


def _connection(board: Board) -> list[str]:
    kind = PROGRAMMERS[board.programmer].connection
    if kind == "can":
        interface, uuid = can_parts(board.port)
        return [f"canbus_uuid: {uuid.hex()}", *([] if interface == "can0" else [f"canbus_interface: {interface}"])]
    if kind == "usb":
        return ["# Its serial port has no name here: write serial: into printer.cfg."]
    # Every CH340 has the same by-id name; where a board is plugged in tells two of them apart.
    lines = [f"serial: {board.port}"]
    if board.baud != DEFAULT_BAUD and kind == "serial":
        lines.append(f"baud: {board.baud}")
    return lines


def minimal(data: str) -> str:
    """Return a printer.cfg that Klipper gets ready with: no kinematics, and what a web interface asks for."""
    return f"""\
# Made by fleetflash, since there was none; from now on it is yours.
{INCLUDE}

[printer]
kinematics: none
max_velocity: 300
max_accel: 3000

[virtual_sdcard]
path: {data}/gcodes

[pause_resume]

[display_status]
"""
