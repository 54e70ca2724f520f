"""``fleetflash board``: clear a board that needed attention, or run one simulated board in the foreground."""

import argparse
import sys
from pathlib import Path

from fleetflash.lab.boards.bmcu_c import BmcuC, Settings
from fleetflash.lab.boards.chip import CHIPS, Chip, complete_uid, uid_from_name
from fleetflash.lab.boards.flash import FlashError
from fleetflash.lab.boards.modem import Wiring


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("board", help="clear a board, or run a simulated one", description=__doc__)
    boards = parser.add_subparsers(dest="board", required=True, metavar="BOARD")
    clear = boards.add_parser("clear", help="say that a board which needed attention has been put right")
    clear.add_argument("inventory", metavar="INVENTORY")
    clear.add_argument("host", metavar="HOST")
    clear.add_argument("name", metavar="BOARD_NAME")
    clear.set_defaults(run=run_clear)
    bmcu = boards.add_parser("bmcu-c", help="BMCU-C: CH32V203 behind a CH340, Klipper or WCH ISP bootloader")
    bmcu.add_argument("--pty", type=Path, required=True, metavar="LINK", help="symbolic link to the serial port")
    bmcu.add_argument("--flash", type=Path, required=True, metavar="FILE", help="code flash; created erased")
    bmcu.add_argument("--uid", metavar="HEX16", help="unique id (12 digits: the check word is added)")
    bmcu.add_argument("--chip-id", type=lambda text: int(text, 0), default=0x31, metavar="ID", help="default: 0x31")
    bmcu.add_argument("--entry", choices=("auto", "button"), default="auto", help="how to enter the bootloader")
    bmcu.add_argument("--wiring", default="reset=rts:0,boot=dtr:0", help="default: %(default)s")
    bmcu.add_argument("--bootloader", action="store_true", help="boot button held down at power-on")
    bmcu.add_argument("--serial-lines", type=Path, metavar="SOCK", help="unix socket for DTR and RTS")
    bmcu.add_argument("--control", type=Path, metavar="SOCK", help="unix socket for JSON lines")
    bmcu.add_argument("--log", type=Path, metavar="FILE", help="append events to this file")
    bmcu.set_defaults(run=run_bmcu_c)


def run_clear(arguments: argparse.Namespace) -> int:
    """0 when the board is clear; 1 when its host can't be asked; 2 for an inventory or host that isn't there."""
    # Only for this command: pyinfra takes its time to load, and patches the standard library.
    from fleetflash.cli.fleet import FleetError, clear_board
    from fleetflash.link.errors import LinkError

    try:
        detail = clear_board(arguments.inventory, arguments.host, arguments.name)
    except FleetError as error:
        print(f"fleetflash board clear: {error}", file=sys.stderr)
        return 2
    except LinkError as error:
        print(f"fleetflash board clear: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.host}/{arguments.name}: {f'cleared: {detail}' if detail else 'needed no attention'}")
    return 0


def run_bmcu_c(arguments: argparse.Namespace) -> int:
    """0 after SIGTERM or SIGINT; 2 when the board cannot be built as asked."""
    try:
        BmcuC(_settings(arguments)).run()
    except (ValueError, FlashError, OSError) as error:
        print(f"board bmcu-c at {arguments.pty}: {error}", file=sys.stderr)
        return 2
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    if arguments.uid is None:
        uid = uid_from_name(arguments.flash.name)
    else:
        uid = bytes.fromhex(arguments.uid.replace("-", "").replace(":", ""))
        uid = complete_uid(uid) if len(uid) == 6 else uid
    if arguments.chip_id not in CHIPS:
        known = ", ".join(f"0x{chip_id:02x}" for chip_id in CHIPS)
        raise ValueError(f"--chip-id 0x{arguments.chip_id:02x} is not known; use one of {known}")
    return Settings(
        pty=arguments.pty.absolute(),
        flash=arguments.flash,
        chip=Chip.make(arguments.chip_id, uid),
        wiring=Wiring.parse(arguments.wiring) if arguments.entry == "auto" else None,
        start_in_bootloader=arguments.bootloader,
        serial_lines=arguments.serial_lines,
        control=arguments.control,
        log=arguments.log,
    )
