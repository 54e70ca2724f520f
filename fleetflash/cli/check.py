"""``fleetflash check``: do the gateways do their work? Web page, API, telemetry and CAN frames, as declared."""

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "check",
        help="check what gateways do: HTTP, MQTT, CAN",
        description=__doc__,
        epilog="Exit code: 0 everything is as expected, 2 something is not, 3 something can't be looked at, 1 the "
        "inventory can't be read, or there is no such gateway.",
    )
    parser.add_argument("inventory", help="a pyinfra inventory, such as inventory/lab.py")
    parser.add_argument("gateway", nargs="?", metavar="GATEWAY", help="only BOARD, HOST or HOST/BOARD")
    parser.add_argument(
        "--data", action="append", default=[], metavar="KEY=VALUE", help="override data, as pyinfra does"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--captures", type=Path, metavar="DIRECTORY", help="keep the CAN frames that were judged there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # pyinfra patches the standard library for gevent when it is imported: only for this command.
    from fleetflash.cli.fleet_checks import FleetError, check_fleet

    try:
        report, captures = check_fleet(arguments.inventory, arguments.data, arguments.gateway)
        if arguments.captures:
            for (host, board), capture in captures.items():
                arguments.captures.mkdir(parents=True, exist_ok=True)
                lines = b"".join(line + b"\n" for line in capture.lines)
                (arguments.captures / f"{host}-{board}-can.log").write_bytes(lines)
    except (FleetError, OSError) as error:
        print(f"fleetflash check: {error}", file=sys.stderr)
        return 1
    report.as_json = arguments.json
    return report.conclude()
