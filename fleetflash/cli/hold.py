"""``fleetflash hold``: the holds that rollbacks have left, listed and cleared."""

import argparse
import json
import sys
import time
from dataclasses import asdict

from fleetflash.report.columns import print_columns


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("hold", help="what rollbacks hold, and let it go", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser(
        "list",
        help="list the boards that are held",
        epilog="Exit code: 0 done, 1 a host can't be asked, 2 the inventory can't be read.",
    )
    listing.add_argument("inventory", metavar="INVENTORY")
    listing.add_argument(
        "--limit", action="append", default=[], metavar="HOST", help="only hosts of that name or group"
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=run_list)
    clear = verbs.add_parser(
        "clear",
        help="let the boards of a host go",
        epilog="Exit code: 0 done, 1 the host can't be asked, 2 the inventory can't be read.",
    )
    clear.add_argument("inventory", metavar="INVENTORY")
    clear.add_argument("host", metavar="HOST")
    clear.add_argument("board", metavar="BOARD", nargs="?", help="only this one; 'host code' is Klipper's own code")
    clear.set_defaults(run=run_clear)


def run_list(arguments: argparse.Namespace) -> int:
    # pyinfra takes its time to load, and patches the standard library.
    from fleetflash.cli.fleet import FleetError
    from fleetflash.cli.fleet_holds import list_holds

    try:
        holds, problems = list_holds(arguments.inventory, arguments.limit)
    except FleetError as error:
        print(f"fleetflash hold: {error}", file=sys.stderr)
        return 2
    found = [(host, board, hold) for host in sorted(holds) for board, hold in sorted(holds[host].items())]
    if arguments.json:
        print(json.dumps([{"host": host, "board": board, **asdict(hold)} for host, board, hold in found], indent=2))
    elif found:
        rows = [
            (host, board, hold.version, hold.target, hold.controller, _moment(hold.since), hold.transaction)
            for host, board, hold in found
        ]
        headers = ("HOST", "BOARD", "HELD AT", "TARGET", "BY", "SINCE", "TRANSACTION")
        print_columns(headers, rows, sys.stdout)
    else:
        print("no board is held")
    for problem in problems:
        print(f"fleetflash hold: {problem}", file=sys.stderr)
    return 1 if problems else 0


def run_clear(arguments: argparse.Namespace) -> int:
    from fleetflash.cli.fleet import FleetError
    from fleetflash.cli.fleet_holds import clear_holds
    from fleetflash.link.errors import LinkError

    try:
        lifted = clear_holds(arguments.inventory, arguments.host, arguments.board)
    except FleetError as error:
        print(f"fleetflash hold: {error}", file=sys.stderr)
        return 2
    except LinkError as error:
        print(f"fleetflash hold: {error}", file=sys.stderr)
        return 1
    for board, hold in sorted(lifted.items()):
        print(f"{arguments.host}/{board}: let go, was held at {hold.version}")
    if not lifted:
        print(f"{arguments.host}{f'/{arguments.board}' if arguments.board else ''}: was not held")
    return 0


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds else "unknown"
