"""``fleetflash board``: clear a board that needed attention, or run one simulated board in the foreground."""

import argparse
import sys
from pathlib import Path

from fleetflash.lab.boards.board import Settings
from fleetflash.lab.boards.flash import FlashError
from fleetflash.lab.boards.kinds import KINDS, Kind
from fleetflash.lab.boards.modem import Wiring


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("board", help="clear a board, or run a simulated one", description=__doc__)
    boards = parser.add_subparsers(dest="board", required=True, metavar="BOARD")
    clear = boards.add_parser("clear", help="say that a board which needed attention has been put right")
    clear.add_argument("inventory", metavar="INVENTORY")
    clear.add_argument("host", metavar="HOST")
    clear.add_argument("name", metavar="BOARD_NAME")
    clear.set_defaults(run=run_clear)
    for name, kind in KINDS.items():
        _add_kind(boards, name, kind)


def _add_kind(boards: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, kind: Kind) -> None:
    parser = boards.add_parser(name, help=kind.help, description=kind.help)
    parser.add_argument("--pty", type=Path, required=True, metavar="LINK", help="symbolic link to the serial port")
    parser.add_argument("--flash", type=Path, required=True, metavar="FILE", help="code flash; created erased")
    parser.add_argument("--uid", metavar="HEX", help="the chip's unique id (default: made from the flash file's name)")
    parser.add_argument("--entry", choices=("auto", "button"), default="auto", help="how to enter the bootloader")
    parser.add_argument("--wiring", default="reset=rts:0,boot=dtr:0", help="default: %(default)s")
    parser.add_argument("--bootloader", action="store_true", help="boot button held down at power-on")
    parser.add_argument("--serial-lines", type=Path, metavar="SOCK", help="unix socket for DTR, RTS and parity")
    parser.add_argument("--control", type=Path, metavar="SOCK", help="unix socket for JSON lines")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append events to this file")
    parser.add_argument("--host", type=Path, metavar="SOCK", help="unix datagram socket that hears of a changed port")
    for flag, how in kind.options:
        parser.add_argument(flag, **how)
    parser.set_defaults(run=lambda arguments: run_board(name, kind, arguments))


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


def run_board(name: str, kind: Kind, arguments: argparse.Namespace) -> int:
    """0 after SIGTERM or SIGINT; 2 when the board cannot be built as asked."""
    try:
        kind.build(_settings(arguments), arguments).run()
    except (ValueError, FlashError, OSError) as error:
        print(f"board {name} at {arguments.pty}: {error}", file=sys.stderr)
        return 2
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        pty=arguments.pty.absolute(),
        flash=arguments.flash,
        wiring=Wiring.parse(arguments.wiring) if arguments.entry == "auto" else None,
        start_in_bootloader=arguments.bootloader,
        serial_lines=arguments.serial_lines,
        control=arguments.control,
        log=arguments.log,
        host=arguments.host,
    )
