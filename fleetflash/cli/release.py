"""``fleetflash release``: what was put into service, with what proves it, kept to be copied away."""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fleetflash.release.archive import Releases
from fleetflash.release.changelog import draft
from fleetflash.release.location import ENVIRONMENT
from fleetflash.release.release import Release, ReleaseError
from fleetflash.report.columns import plain, print_columns

OK, REFUSED, USER_ERROR = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "release", help="records of gateways that were put into service", description=__doc__
    )
    commands = parser.add_subparsers(dest="release_command", required=True, metavar="COMMAND")
    for name, help_text, function in (
        ("make", "look at a gateway, and keep a release when all is as declared", _make),
        ("list", "list the releases, oldest first", _list),
        ("show", "show one: what it is, and what was looked at", _show),
        ("verify", "check that a release's files are as they were", _verify),
        ("export", "copy one into a directory, checked", _export),
        ("changelog", "draft a changelog's entry", _changelog),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        command.add_argument(
            "--releases", metavar="DIR", help=f"default: ${ENVIRONMENT}, else beside the artifact store"
        )
        command.set_defaults(run=_runner(function))
        if name in ("show", "verify", "export"):
            command.add_argument("id", metavar="ID", help="the beginning of its id, or a board: its last one")
        if name in ("list", "show"):
            command.add_argument("--json", action="store_true", help="print JSON")
        if name == "export":
            command.add_argument("directory", type=Path, metavar="DIRECTORY")
        if name == "changelog":
            command.add_argument("id", nargs="*", metavar="ID", help="which (default: all)")
        if name == "make":
            command.add_argument("inventory", help="a pyinfra inventory, such as inventory/lab.py")
            command.add_argument("gateway", metavar="GATEWAY", help="HOST/BOARD, or BOARD")
            command.add_argument("--site", default="", help="default: the site that its firmware was built for")
            command.add_argument("--operator", default="", help="default: you, at this computer")
            command.add_argument(
                "--data", action="append", default=[], metavar="KEY=VALUE", help="override data, as pyinfra does"
            )


def _runner(function: Callable[[argparse.Namespace, Releases], int]) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments, Releases(arguments.releases))
        except ReleaseError as error:
            print(f"fleetflash release: {plain(str(error))}", file=sys.stderr)
            return USER_ERROR

    return run


def _make(arguments: argparse.Namespace, releases: Releases) -> int:
    # pyinfra patches the standard library for gevent when it is imported: only for this command.
    from fleetflash.cli.fleet_release import FleetError, controller, look
    from fleetflash.firmware.store import Store
    from fleetflash.release.making import Sources, make_release

    try:
        candidate, cache = look(arguments.inventory, arguments.data, arguments.gateway)
    except FleetError as error:
        print(f"fleetflash release: {error}", file=sys.stderr)
        return USER_ERROR
    sources = Sources(Store(), cache, releases)
    now = datetime.now(UTC).replace(microsecond=0)
    made = make_release(candidate, sources, arguments.operator or controller(), arguments.site, now)
    print(f"{made.id}: {len(made.checks)} checks, {len(made.files)} files in {releases.path(made)}")
    return OK


def _list(arguments: argparse.Namespace, releases: Releases) -> int:
    found = releases.releases()
    if arguments.json:
        print("[" + ",\n".join(release.model_dump_json(indent=1) for release in found) + "]")
    elif found:
        rows = [(f"{r.at:%Y-%m-%d %H:%M}", r.site, f"{r.host}/{r.board}", r.version, r.operator, r.id) for r in found]
        print_columns(("WHEN", "SITE", "BOARD", "VERSION", "WHO", "ID"), rows, sys.stdout)
    else:
        print(f"no releases in {releases.directory}")
    return OK


def _show(arguments: argparse.Namespace, releases: Releases) -> int:
    release = releases.get(arguments.id)
    if arguments.json:
        print(release.model_dump_json(indent=1))
        return OK
    facts = {
        "when": f"{release.at:%Y-%m-%d %H:%M:%S} UTC",
        "who": release.operator,
        "site": release.site,
        "board": f"{release.host}/{release.board}",
        "firmware": f"{release.firmware} {release.version} for {release.chip}",
        "commit": release.commit,
        "ESP-IDF": release.idf_version,
        "configuration": release.configuration,
        "artifact": f"sha256:{release.artifact}",
        **{f"boot {boot.log}": _boot(boot.accepted, boot.contract, boot.summary) for boot in release.boots},
        "files": str(releases.path(release)),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {plain(value)}")
    print()
    rows = [(check.name, check.expected, check.found, check.result) for check in release.checks]
    print_columns(("CHECK", "EXPECTED", "FOUND", "RESULT"), rows, sys.stdout)
    return OK


def _boot(accepted: bool, contract: str, summary: str) -> str:
    return f"accepted by {contract}" if accepted else f"rejected by {contract}: {summary}"


def _verify(arguments: argparse.Namespace, releases: Releases) -> int:
    release: Release = releases.get(arguments.id)
    problems = releases.problems(release)
    for problem in problems:
        print(f"{release.id}/{plain(problem)}")
    if not problems:
        print(f"{release.id}: {len(release.files)} files are as they were")
    return REFUSED if problems else OK


def _export(arguments: argparse.Namespace, releases: Releases) -> int:
    release = releases.get(arguments.id)
    print(releases.export(release, arguments.directory))
    return OK


def _changelog(arguments: argparse.Namespace, releases: Releases) -> int:
    found = [releases.get(id) for id in arguments.id] if arguments.id else releases.releases()
    if not found:
        raise ReleaseError(f"no releases in {releases.directory}; make one first")
    print(draft(found), end="")
    return OK
