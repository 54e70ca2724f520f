"""``fleetflash backup``: what boards ran before they were written, as it was copied here from their hosts."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetflash.agent.protocols.flash_parts import PartsError, unpack
from fleetflash.agent.schema import to_json
from fleetflash.firmware.backup_store import BackupStore, Kept
from fleetflash.firmware.errors import FirmwareError, StoreError
from fleetflash.firmware.location import ENVIRONMENT
from fleetflash.report.columns import plain, print_columns

OK, PROBLEM, USER_ERROR = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "backup",
        help="what boards ran before they were written",
        description="Backups of boards: read back, or the registered image that was their way back. "
        "deploys/backup.py takes one now.",
    )
    commands = parser.add_subparsers(dest="backup_command", required=True, metavar="COMMAND")
    listing = _command(commands, "list", "list backups, newest first", _list)
    listing.add_argument("--host", help="only those of this host")
    listing.add_argument("--board", help="only those of boards of this name")
    show = _command(commands, "show", "show one backup", _show)
    show.add_argument("id", metavar="ID", help="its id, or the first digits of it")
    _command(commands, "verify", "check every backup; exit code 1 if something is wrong", _verify)
    export = _command(commands, "export", "write a backup into a file, or its parts into a directory", _export)
    export.add_argument("id", metavar="ID", help="its id, or the first digits of it")
    export.add_argument("path", type=Path, metavar="PATH", help="must not be there yet")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help: str,
    function: Callable[[argparse.Namespace, BackupStore], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.add_argument("--store", metavar="DIR", help=f"the store's directory (default ${ENVIRONMENT})")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> int:
        try:
            return function(arguments, BackupStore(arguments.store))
        except FirmwareError as error:
            print(f"fleetflash: {plain(str(error))}", file=sys.stderr)
            return USER_ERROR

    parser.set_defaults(run=run)
    return parser


def _list(arguments: argparse.Namespace, store: BackupStore) -> int:
    found = store.find(host=arguments.host, board=arguments.board)
    if arguments.json:
        _print_json([_as_json(kept) for kept in found])
        return OK
    headers = ("ID", "TAKEN (UTC)", "HOST", "BOARD", "KIND", "VERSION", "CHIP", "UNIQUE ID", "BYTES", "REASON")
    rows = [
        (
            kept.short_id,
            _time(kept, "%Y-%m-%d %H:%M"),
            kept.host,
            kept.backup.board,
            kept.backup.kind,
            kept.backup.image.version,
            kept.backup.chip,
            kept.backup.uid,
            str(kept.backup.image.size),
            kept.backup.reason,
        )
        for kept in found
    ]
    if rows:
        print_columns(headers, rows, sys.stdout, right=frozenset({8}))
    else:
        print(f"no backups in {store.directory}")
    return OK


def _show(arguments: argparse.Namespace, store: BackupStore) -> int:
    kept = store.get(arguments.id)
    if arguments.json:
        _print_json({**_as_json(kept), "file": str(store.image(kept))})
        return OK
    backup, image = kept.backup, kept.backup.image
    facts = {
        "id": kept.id,
        "host": kept.host,
        "board": backup.board,
        "kind": backup.kind,
        "taken": _time(kept, "%Y-%m-%d %H:%M:%S UTC"),
        "reason": backup.reason,
        "transaction": backup.transaction,
        "chip": backup.chip,
        "unique id": backup.uid,
        "version": image.version,
        "built with": image.build_versions,
        "artifact": image.artifact,
        "offset": f"{backup.flash_offset:#x}",
        "bytes": str(image.size),
        "sha256": image.sha256,
        "file": str(store.image(kept)),
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {plain(value)}")
    return OK


def _verify(arguments: argparse.Namespace, store: BackupStore) -> int:
    problems = store.verify()
    if arguments.json:
        _print_json([{"backup": backup, "detail": detail} for backup, detail in problems])
    else:
        for backup, detail in problems:
            print(f"{backup}: {plain(detail)}")
        print(f"{len(problems)} problems" if len(problems) != 1 else "1 problem")
    return PROBLEM if problems else OK


def _export(arguments: argparse.Namespace, store: BackupStore) -> int:
    kept = store.get(arguments.id)
    data = store.read(kept)
    files = _files(data, arguments.path)
    try:
        if arguments.path not in files:
            arguments.path.mkdir(mode=0o700)
        for path, content in files.items():
            # Its owner's alone: what was read from a board may hold secrets.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
    except OSError as error:
        raise StoreError(f"{arguments.path}: {error.strerror or error}; give a path that is not there yet") from None
    if arguments.json:
        _print_json([{"path": str(path), "size": len(content)} for path, content in files.items()])
    else:
        for path, content in files.items():
            print(f"{path}: {len(content)} bytes of {kept.host}/{kept.backup.board}")
    return OK


def _files(data: bytes, path: Path) -> dict[Path, bytes]:
    """Return the files of a backup: of an archive of parts of flash, one for each, unless it is a single one."""
    try:
        parts = unpack(data)
    except PartsError:
        return {path: data}
    if len(parts) == 1:
        return {path: parts[0].data}
    return {path / f"0x{part.offset:08x}.bin": part.data for part in parts}


def _time(kept: Kept, form: str) -> str:
    return time.strftime(form, time.gmtime(kept.backup.taken_at))


def _as_json(kept: Kept) -> dict[str, Any]:
    return {"id": kept.id, "host": kept.host, **to_json(kept.backup)}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
