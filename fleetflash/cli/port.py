"""``fleetflash port``: one board on one serial port by hand, here or on a printer (``fleetflash://HOST/dev/…``).

Nothing is stopped, guarded or recorded: stop Klipper first, and prefer deploys/flash.py for what an inventory names.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.errors import ProtocolError
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.protocols.wirings import entry_sequence
from fleetflash.agent.schema import Entry
from fleetflash.cli.handwork import HandworkError, Job, identify
from fleetflash.firmware.chips import CHIPS, chip
from fleetflash.firmware.errors import FirmwareError
from fleetflash.link.bench import BenchPort
from fleetflash.link.errors import LinkError
from fleetflash.link.url import UrlError

#: A line that stays open for this long is shown as far as it has come, in seconds.
PIECE_SECONDS = 0.2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "port", help="one board on one port by hand", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    monitor = _add(jobs, "monitor", "show what the board says, with times", baud=115200)
    monitor.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time (default: Ctrl-C)")
    monitor.add_argument("--hex", action="store_true", help="show bytes instead of text")
    asking = _add(jobs, "identify", "ask the running Klipper firmware what it is")
    asking.add_argument("--json", action="store_true", help="the facts as JSON")
    _add_programmer(_add(jobs, "info", "ask the bootloader what the chip is"))
    backup = _add(jobs, "backup", "read the application's flash into a new file")
    backup.add_argument("file", metavar="FILE", type=Path)
    _add_programmer(backup)
    flash = _add(jobs, "flash", "write, verify, start and ask what runs")
    flash.add_argument("image", metavar="IMAGE", type=Path)
    _add_programmer(flash)
    back = flash.add_mutually_exclusive_group(required=True)
    back.add_argument("--backup", metavar="FILE", type=Path, help="read the old firmware into this new file first")
    back.add_argument("--way-back", metavar="IMAGE", type=Path, help="write this when IMAGE can't be written")
    back.add_argument("--no-way-back", action="store_true", help="accept that a failure leaves no firmware")
    verify = _add(jobs, "verify", "compare the flash with an image")
    verify.add_argument("image", metavar="IMAGE", type=Path)
    _add_programmer(verify)
    _add_programmer(_add(jobs, "reset", "start the application anew"))


def run(arguments: argparse.Namespace) -> int:
    """0 when it was done; 1 when the board, its port or the link failed; 2 for what can't be meant."""
    try:
        with BenchPort(arguments.target) as port:
            return _JOBS[arguments.job](arguments, port)
    except (UrlError, FirmwareError) as error:
        code, problem = 2, str(error)
    except (HandworkError, ProtocolError, PortError, LinkError) as error:
        code, problem = 1, str(error)
    print(f"fleetflash port {arguments.job}: {problem}", file=sys.stderr)
    return code


def _add(
    jobs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, baud: int = 250000
) -> argparse.ArgumentParser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("target", metavar="PORT", help="a device of this computer, or fleetflash://[USER@]HOST/dev/…")
    parser.add_argument("--baud", type=int, default=baud, help="the firmware's rate in bit/s (default: the usual one)")
    parser.set_defaults(run=run)
    return parser


def _add_programmer(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(baud=None)
    serial = sorted(name for name, kind in PROGRAMMERS.items() if kind.capabilities.connection == "serial")
    parser.add_argument("--programmer", choices=serial, required=True, help="see docs/programmers.md")
    parser.add_argument("--chip", required=True, metavar="CHIP", help=f"one of {', '.join(sorted(CHIPS))}")
    parser.add_argument("--entry", choices=("lines", "request", "button"), help="default: the programmer's usual way")
    parser.add_argument(
        "--wiring", type=_wiring, default="", help="e.g. reset=rts:0,boot=dtr:0 (default: all are tried)"
    )
    parser.add_argument(
        "--offset", type=lambda text: int(text, 0), default=0, help="where in the flash the application begins"
    )


def _wiring(text: str) -> str:
    """For argparse, which asks for its default, too: a wiring as the programmers know it, or none."""
    if not text:
        return text
    try:
        entry_sequence(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


# Jobs


def _monitor(arguments: argparse.Namespace, bench: BenchPort) -> int:
    port = bench.open(arguments.baud)
    started = time.monotonic()
    held = b""
    while (now := time.monotonic() - started) < arguments.seconds:
        piece = port.read(4096, min(PIECE_SECONDS, arguments.seconds - now))
        lines = (held + piece).split(b"\n")
        # A line that has not ended waits for its end, but not for ever.
        held = lines.pop() if piece else b""
        for line in filter(None, lines):
            _show(time.monotonic() - started, line, arguments.hex)
    if held:
        _show(time.monotonic() - started, held, arguments.hex)
    return 0


def _show(seconds: float, line: bytes, as_hex: bool) -> None:
    text = line.hex(" ") if as_hex else line.rstrip(b"\r").decode("utf-8", "backslashreplace")
    print(f"{seconds:9.3f}  {''.join(c if c.isprintable() or c == chr(9) else '·' for c in text)}", flush=True)


def _identify(arguments: argparse.Namespace, bench: BenchPort) -> int:
    found = identify(bench.open(arguments.baud))
    if arguments.json:
        facts = {"version": found.version, "build_versions": found.build_versions, "constants": found.constants}
        print(json.dumps(facts, indent=1, sort_keys=True))
    else:
        print(f"{bench.name}: {found.version} for {found.constants.get('MCU', 'unknown')} ({found.build_versions})")
    return 0


def _info(arguments: argparse.Namespace, bench: BenchPort) -> int:
    found = _job(arguments, bench).info()
    names = [c.name for c in CHIPS.values() if found.chip_id in c.bootloader_ids(arguments.programmer)]
    backup = PROGRAMMERS[arguments.programmer].capabilities.backup(found.protected, known_good=False)
    print(f"chip       {found.chip_id} ({' or '.join(names) or 'unknown'})")
    print(f"unique id  {found.uid or 'not told'}")
    print(f"protected  {'yes' if found.protected else 'no'}")
    print(f"backup     {'read-back' if backup == 'read-back' else 'it can not be read'}")
    return 0


def _backup(arguments: argparse.Namespace, bench: BenchPort) -> int:
    size = _job(arguments, bench).backup(arguments.file)
    print(f"{bench.name}: {size} bytes in {arguments.file}")
    return 0


def _flash(arguments: argparse.Namespace, bench: BenchPort) -> int:
    job = _job(arguments, bench)
    image = job.load(arguments.image)
    way_back = job.load(arguments.way_back) if arguments.way_back else None
    version = job.flash(image, arguments.backup, way_back)
    print(f"{bench.name}: written and verified, runs {version or 'it can not say what'}")
    return 0


def _verify(arguments: argparse.Namespace, bench: BenchPort) -> int:
    job = _job(arguments, bench)
    job.verify(job.load(arguments.image))
    print(f"{bench.name}: the flash holds {arguments.image}")
    return 0


def _reset(arguments: argparse.Namespace, bench: BenchPort) -> int:
    _job(arguments, bench).reset()
    print(f"{bench.name}: reset")
    return 0


_JOBS = {
    "monitor": _monitor,
    "identify": _identify,
    "info": _info,
    "backup": _backup,
    "flash": _flash,
    "verify": _verify,
    "reset": _reset,
}


def _job(arguments: argparse.Namespace, bench: BenchPort) -> Job:
    capabilities = PROGRAMMERS[arguments.programmer].capabilities
    method = arguments.entry or capabilities.entries[0]
    if method not in capabilities.entries:
        raise HandworkError(f"{arguments.programmer} is entered by {' or '.join(capabilities.entries)}, not {method}")
    target = chip(arguments.chip)
    if arguments.offset < 0 or target.room(arguments.offset) <= 0:
        raise HandworkError(f"--offset {arguments.offset:#x} lies outside the flash of {target.name}")
    return Job(
        port=bench,
        programmer=arguments.programmer,
        entry=Entry(method, arguments.wiring),
        ask=_ask,
        report=_Progress(),
        chip=target,
        offset=arguments.offset,
        baud=arguments.baud or capabilities.baudrate,
    )


def _ask(gesture: str, seconds: float) -> None:
    print(f"NOW: {gesture} (within {seconds:g} s)", file=sys.stderr, flush=True)


class _Progress:
    """A line a phase on a terminal's bottom; nothing where there is none."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{phase:8} {100 * done // max(1, total):3} %", end=end, file=sys.stderr, flush=True)
