"""``fleetflash wheels``: hashed requirements that pin exactly the wheels of a directory."""

import argparse
import sys
from pathlib import Path

from fleetflash.provision import requirements
from fleetflash.provision.errors import RequirementsError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("wheels", help="pin a directory of wheels by their hashes", description=__doc__)
    parser.add_argument("directory", type=Path, help="filled by pip download or pip wheel; see docs/site.md")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        print(requirements.lock(arguments.directory), end="")
    except RequirementsError as error:
        print(f"fleetflash wheels: {error}", file=sys.stderr)
        return 1
    return 0
