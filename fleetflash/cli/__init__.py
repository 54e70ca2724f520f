"""The ``fleetflash`` command: one module per subcommand, each with ``add_parser(subparsers)``.

A subcommand's parser sets ``run=`` to a function that takes the parsed arguments and returns an exit code.
"""

import argparse
import importlib
import sys

from fleetflash import __version__

COMMANDS = (
    "accept",
    "artifact",
    "backup",
    "board",
    "build",
    "check",
    "demo",
    "hold",
    "incident",
    "lab",
    "plan",
    "port",
    "release",
    "scan",
    "verify",
    "wheels",
)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="fleetflash", description="Declarative firmware for fleets of printers.")
    parser.add_argument("--version", action="version", version=f"fleetflash {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only what is asked for is loaded: a simulated board must not cost what a whole fleet's plan does.
    asked = [name for name in COMMANDS if arguments[:1] == [name]]
    for name in asked or COMMANDS:
        importlib.import_module(f"fleetflash.cli.{name}").add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
