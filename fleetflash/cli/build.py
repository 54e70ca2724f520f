"""``fleetflash build``: make the firmware of board and gateway types by hand, each only if nobody has built it yet."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildError
from fleetflash.build.idf.builder import GatewayBuilder
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.build.location import ENVIRONMENT, default_cache
from fleetflash.build.types_file import TYPES, read_types_file
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.report.columns import plain, print_columns

#: Prospects or makes one type, and returns its row of the table.
Job = Callable[[], tuple[str, ...]]
OK, FAILED, USER_ERROR = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("build", help="build firmware from source, each once", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TYPE", help="of a board or a gateway; default: all")
    parser.add_argument(
        "--types", type=Path, default=TYPES, metavar="FILE", help="where they are (default: %(default)s)"
    )
    parser.add_argument("--plan", action="store_true", help="only say what would be built, and what changes in it")
    parser.add_argument("--store", metavar="DIR", help="the artifact store, as in 'fleetflash artifact'")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help=f"default: ${ENVIRONMENT}, else ~/.cache/fleetflash/build"
    )
    parser.add_argument(
        "--collect", type=int, metavar="N", help="afterwards remove all but the N last used versions of each toolchain"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when everything is built; 1 when something could not be, which is told; 2 for what the user wrote wrong."""
    try:
        builder, jobs = _read(arguments)
    except BuildError as error:
        print(f"fleetflash build: {plain(str(error))}", file=sys.stderr)
        return USER_ERROR
    rows, failed = [], False
    for job in jobs:
        try:
            rows.append(job())
        except (BuildError, FirmwareError) as error:
            print(f"fleetflash build: {plain(str(error))}", file=sys.stderr)
            failed = True
    if rows:
        print_columns(("TYPE", "VERSION", "BUILD", "ARTIFACT", "STATE"), rows, sys.stdout)
    if arguments.collect is not None:
        for toolchain in builder.toolchains.collect(arguments.collect):
            print(f"removed toolchain {toolchain.name} {toolchain.version}", file=sys.stderr)
    return FAILED if failed else OK


def _read(arguments: argparse.Namespace) -> tuple[Builder, list[Job]]:
    """Return the builder of board types, and for each type that is asked for what makes its row."""
    described = read_types_file(arguments.types)
    types, gateways = described.boards, described.gateways
    for name in arguments.names:
        if name not in {*types, *gateways}:
            there = ", ".join(sorted({*types, *gateways})) or "none"
            raise BuildError(f"no board or gateway type {name!r}, there is {there}")
    cache = arguments.cache.absolute() if arguments.cache else default_cache()
    store = Store(arguments.store)
    builder = Builder(cache, store, Path.cwd(), described.toolchains, _report)
    gateway_builder = GatewayBuilder(cache, store, Path.cwd(), described.esp_idf, _report)
    row, gateway_row = (_prospect, _gateway_prospect) if arguments.plan else (_ensure, _ensure_gateway)
    jobs: dict[str, Job] = {name: partial(row, builder, found) for name, found in types.items()}
    jobs |= {name: partial(gateway_row, gateway_builder, found) for name, found in gateways.items()}
    return builder, [jobs[name] for name in arguments.names or jobs]


def _gateway_prospect(builder: GatewayBuilder, gateway: GatewayType) -> tuple[str, ...]:
    prospect = builder.prospect(gateway)
    prepared = prospect.prepared
    for change in prospect.changes:
        _report(f"{gateway.name}: {change}")
    for change in prepared.stale:
        _report(f"{gateway.name}: the source's sdkconfig is left aside, it would have overridden {change}")
    state = "built already" if prospect.is_built else "to build"
    return gateway.name, prepared.inputs.revision.version, prepared.key.id[:12], "-", state


def _ensure_gateway(builder: GatewayBuilder, gateway: GatewayType) -> tuple[str, ...]:
    outcome = builder.ensure(gateway)
    for change in outcome.changes:
        _report(f"{gateway.name}: {change}")
    state = "built" if outcome.built else "there"
    return gateway.name, outcome.artifact.version, outcome.build.id[:12], outcome.artifact.short_id, state


def _prospect(builder: Builder, board_type: BoardType) -> tuple[str, ...]:
    prospect = builder.prospect(board_type)
    for change in prospect.changes:
        _report(f"{board_type.name}: {change}")
    state = "built already" if prospect.is_built else "to build"
    return board_type.name, prospect.prepared.version, prospect.prepared.key.id[:12], "-", state


def _ensure(builder: Builder, board_type: BoardType) -> tuple[str, ...]:
    outcome = builder.ensure(board_type)
    for change in outcome.changes:
        _report(f"{board_type.name}: {change}")
    state = "built" if outcome.built else "there"
    return board_type.name, outcome.artifact.version, outcome.key[:12], outcome.artifact.short_id, state


def _report(text: str) -> None:
    os.write(sys.stderr.fileno(), (plain(text) + "\n").encode())
