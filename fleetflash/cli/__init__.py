"""The ``fleetflash`` command: one module per subcommand, each with ``add_parser(subparsers)``.

A subcommand's parser sets ``run=`` to a function that takes the parsed arguments and returns an exit code.
"""

import argparse
import importlib
import sys

from fleetflash import __version__

COMMANDS = ("artifact", "board", "demo", "lab", "plan")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fleetflash", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"fleetflash {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"fleetflash.cli.{name}").add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
