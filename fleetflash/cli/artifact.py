"""``fleetflash artifact``: register firmware images and see what is registered."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.location import ENVIRONMENT
from fleetflash.firmware.registration import describe_image
from fleetflash.firmware.store import Store
from fleetflash.report.columns import plain, print_columns

OK, PROBLEM, USER_ERROR = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "artifact",
        help="register firmware images, list and verify them",
        description="Firmware images that boards can be set to, in a store addressed by content.",
    )
    commands = parser.add_subparsers(dest="artifact_command", required=True, metavar="COMMAND")

    add = _command(commands, "add", "register images; all of them, or none if one is not right", _add)
    add.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="image (raw, Intel hex or ELF), one artifact each"
    )
    add.add_argument("--chip", required=True, help="chip that it is for, e.g. ch32v203c8t6")
    add.add_argument("--name", required=True, help="which firmware it is, e.g. bmcu-c")
    add.add_argument("--version", help="version; read from a Klipper image, so needed with --raw only")
    add.add_argument("--label", help="a word to find it by, e.g. factory")
    add.add_argument(
        "--offset",
        type=_offset,
        metavar="BYTES",
        help="where in flash a raw file belongs, e.g. 0x2000 behind a bootloader (default 0)",
    )
    add.add_argument("--raw", action="store_true", help="accept an image that is not Klipper")

    listing = _command(commands, "list", "list artifacts", _list)
    for option in ("name", "version", "chip", "label"):
        listing.add_argument(f"--{option}", help=f"only those with this {option}")

    show = _command(commands, "show", "show one artifact", _show)
    show.add_argument("id", metavar="ID", help="its id, or the first digits of it")

    _command(commands, "verify", "check every artifact; exit code 1 if something is wrong", _verify)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help: str,
    function: Callable[[argparse.Namespace, Store], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.add_argument(
        "--store",
        metavar="DIR",
        help=f"the store's directory (default ${ENVIRONMENT}, else ~/.local/share/fleetflash/artifacts)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments, Store(arguments.store))
        except FirmwareError as error:
            print(f"fleetflash: {plain(str(error))}", file=sys.stderr)
            return USER_ERROR

    parser.set_defaults(run=run)
    return parser


def _add(arguments: argparse.Namespace, store: Store) -> int:
    described = [
        describe_image(
            path,
            chip=arguments.chip,
            name=arguments.name,
            version=arguments.version,
            label=arguments.label,
            offset=arguments.offset,
            raw=arguments.raw,
        )
        for path in arguments.files
    ]
    artifacts = [store.publish(artifact, contents) for artifact, contents in described]
    _print_artifacts(artifacts, store, arguments.json)
    return OK


def _list(arguments: argparse.Namespace, store: Store) -> int:
    found = store.find(name=arguments.name, version=arguments.version, chip=arguments.chip, label=arguments.label)
    _print_artifacts(found, store, arguments.json)
    return OK


def _show(arguments: argparse.Namespace, store: Store) -> int:
    artifact = store.get(arguments.id)
    if arguments.json:
        _print_json(_as_json(artifact, store))
        return OK
    facts = {
        "id": artifact.id,
        "name": artifact.name,
        "version": artifact.version,
        "chip": artifact.chip,
        "kind": artifact.kind,
        "labels": " ".join(artifact.labels),
        "created": f"{artifact.created:%Y-%m-%d %H:%M:%S %Z}",
        "directory": str(store.path(artifact)),
    }
    for file in artifact.files:
        facts[f"file {file.name}"] = f"{file.size} bytes at {file.offset:#x}, sha256 {file.sha256}"
    if artifact.klipper:
        facts["built with"] = artifact.klipper.build_versions
        facts["dictionary sha256"] = artifact.klipper.dictionary_sha256
        facts |= {f"constant {key}": str(value) for key, value in sorted(artifact.klipper.constants.items())}
    facts |= {f"build {key}": str(value) for key, value in sorted(artifact.build.items())}
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {plain(value)}")
    return OK


def _verify(arguments: argparse.Namespace, store: Store) -> int:
    problems = store.verify()
    if arguments.json:
        _print_json([{"artifact": problem.artifact, "detail": problem.detail} for problem in problems])
    else:
        for problem in problems:
            print(f"{problem.artifact[:12]}: {plain(problem.detail)}")
        print(f"{len(problems)} problems" if len(problems) != 1 else "1 problem")
    return PROBLEM if problems else OK


def _print_artifacts(artifacts: list[Artifact], store: Store, as_json: bool) -> None:
    if as_json:
        _print_json([_as_json(artifact, store) for artifact in artifacts])
        return
    rows = [
        (
            a.short_id,
            a.name,
            a.version,
            a.chip,
            str(a.size),
            f"{a.created:%Y-%m-%d %H:%M}",
            " ".join(a.labels),
        )
        for a in artifacts
    ]
    if rows:
        headers = ("ID", "NAME", "VERSION", "CHIP", "BYTES", "ADDED", "LABELS")
        print_columns(headers, rows, sys.stdout, right=frozenset({4}))
    else:
        print(f"no artifacts in {store.directory}")


def _as_json(artifact: Artifact, store: Store) -> dict[str, Any]:
    return {"id": artifact.id, "directory": str(store.path(artifact)), **artifact.model_dump(mode="json")}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _offset(text: str) -> int:
    """Parse a byte offset such as ``8192`` or ``0x2000`` for argparse."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no offset; give bytes, e.g. 8192 or 0x2000")
    return value
