"""``fleetflash plan``: what a run would do to every board, unattended and without changing anything."""

import argparse
import sys

from fleetflash.report.table import print_plan, to_json


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "plan",
        help="show what would be done to every board",
        description=__doc__,
        epilog="Exit code: 0 nothing to do, 2 changes pending, 3 something is refused or offline, 4 something is "
        "deferred, held or waits for a person, 1 the inventory can't be read.",
    )
    parser.add_argument("inventory", help="a pyinfra inventory, such as inventory/lab.py")
    parser.add_argument(
        "--limit", action="append", default=[], metavar="HOST", help="only hosts or groups of that name"
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="KEY=VALUE", help="override data, as pyinfra does"
    )
    parser.add_argument("--rollback", action="store_true", help="what deploys/rollback.py would do with that --data")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    # pyinfra patches the standard library for gevent when it is imported: only for this command.
    from fleetflash.cli.fleet import FleetError, plan_fleet
    from fleetflash.report.rows import plan_rows
    from fleetflash.report.run import exit_code

    try:
        plans = plan_fleet(arguments.inventory, arguments.data, arguments.limit, arguments.rollback)
    except FleetError as error:
        print(f"fleetflash plan: {error}", file=sys.stderr)
        return 1
    rows = [row for plan in plans for row in plan_rows(plan)]
    if arguments.json:
        print(to_json(rows))
    else:
        print_plan(rows, sys.stdout)
        for plan in plans:
            for note in plan.notes:
                print(f"{plan.host}/{note}")
    return exit_code(rows) or (2 if any(row.outcome == "flash" for row in rows) else 0)
