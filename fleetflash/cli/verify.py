"""``fleetflash verify``: is everything as it was declared? For people before production, and for cron."""

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check that everything is as it was declared",
        description=__doc__,
        epilog="Exit code: 0 everything is as declared, 2 something has drifted, 3 something can't be looked at or "
        "done, 1 the inventory can't be read.",
    )
    parser.add_argument("inventory", help="a pyinfra inventory, such as inventory/lab.py")
    parser.add_argument(
        "--limit", action="append", default=[], metavar="HOST", help="only hosts or groups of that name"
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="KEY=VALUE", help="override data, as pyinfra does"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-rebuild", action="store_true", help="don't build pinned firmware once more")
    parser.add_argument(
        "--types",
        type=Path,
        default=Path("group_data/builders.py"),
        metavar="FILE",
        help="where board types are described (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # pyinfra patches the standard library for gevent when it is imported: only for this command.
    from fleetflash.cli.fleet import FleetError, verify_fleet

    try:
        report = verify_fleet(arguments.inventory, arguments.data, arguments.limit)
    except FleetError as error:
        print(f"fleetflash verify: {error}", file=sys.stderr)
        return 1
    report.rebuilds, report.as_json, report.types = not arguments.no_rebuild, arguments.json, arguments.types
    return report.conclude()
