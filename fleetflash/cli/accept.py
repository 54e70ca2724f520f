"""``fleetflash accept``: judge a gateway's boot log against its contract, without a board.

Exit codes: 0 accepted, 1 rejected, 2 the contract, the log or the command line can't be used.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.acceptance.errors import AcceptanceError, LogError
from fleetflash.acceptance.log_file import LogFile, judge_log
from fleetflash.acceptance.panic_decoder import Symbols
from fleetflash.acceptance.verdict_text import describe
from fleetflash.agent.acceptance.judge import EquipmentError, Judge
from fleetflash.agent.acceptance.verdict import Verdict
from fleetflash.report.columns import write_line

ACCEPTED, REJECTED, ERROR = 0, 1, 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("accept", help="judge a boot log against a contract", description=__doc__)
    parser.add_argument("contract", type=Path, metavar="CONTRACT", help="YAML; see docs/acceptance.md")
    parser.add_argument("log", metavar="LOGFILE", help="monitor.log, or what a terminal kept; - is standard input")
    parser.add_argument(
        *("--equipment", "-e"),
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VARIANT",
        help="what the board has, e.g. sd=yes; without, the log must show it",
    )
    parser.add_argument(
        "--listened", type=float, metavar="SECONDS", help="for how long the log was recorded, if it does not tell"
    )
    parser.add_argument("--elf", type=Path, help="the firmware's ELF file: addresses of a panic become functions")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 accepted, 1 rejected, 2 when that can't be said."""
    try:
        judge = Judge(read_contract(arguments.contract), dict(arguments.equipment))
        symbols = Symbols(arguments.elf) if arguments.elf else None
        verdict = _judge(judge, arguments.log, arguments.listened)
    except (AcceptanceError, EquipmentError) as error:
        print(f"fleetflash accept: {error}", file=sys.stderr)
        return ERROR
    decoded = [symbols.decode(panic) if symbols else [] for panic in verdict.panics]
    if arguments.json:
        print(json.dumps(as_json(verdict, decoded), indent=2))
    else:
        for line in describe(verdict, arguments.log, decoded):
            write_line(line, sys.stdout)
    return ACCEPTED if verdict.accepted else REJECTED


def as_json(verdict: Verdict, decoded: list[list[str]]) -> dict[str, Any]:
    """The verdict with each panic's addresses as text."""
    found = dataclasses.asdict(verdict)
    for panic, frames in zip(found["panics"], decoded, strict=True):
        panic["decoded"] = frames
    return found


def _judge(judge: Judge, name: str, listened: float | None) -> Verdict:
    if name == "-":
        return judge_log(judge, LogFile(sys.stdin.buffer, "standard input"), listened)
    try:
        with Path(name).open("rb") as file:
            return judge_log(judge, LogFile(file, name), listened)
    except OSError as error:
        raise LogError(f"{name}: {error.strerror}") from None


def _assignment(text: str) -> tuple[str, str]:
    name, sign, variant = text.partition("=")
    if not (name and sign and variant):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VARIANT, e.g. sd=yes")
    return name, variant
