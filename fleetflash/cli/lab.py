"""``fleetflash lab``: a simulated print farm on this machine, for trying and testing without printers."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jinja2

from fleetflash.lab import requirements
from fleetflash.lab.bench import default_hosts, gateway_hosts
from fleetflash.lab.board import Board
from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from fleetflash.lab.klipper import board_path
from fleetflash.lab.lab import Lab, down, names
from fleetflash.lab.layout import Layout

Run = Callable[[argparse.Namespace], int]
KLIPPY_SECONDS = 90.0
TEMPLATE = Path("templates/inventory.py.j2")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("lab", help="a simulated print farm on this machine", description=__doc__)
    commands = parser.add_subparsers(dest="lab_command", required=True, metavar="LAB_COMMAND")

    def command(name: str, run: Run, what: str, *positional: str, root: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        sub.add_argument("--name", default="lab", help="which lab (default: %(default)s)")
        for argument in positional:
            sub.add_argument(argument, metavar=argument.upper())
        sub.set_defaults(run=_guarded(run, root))
        return sub

    up = command("up", _up, "boot the lab's hosts")
    up.add_argument("--hosts", type=int, default=6, metavar="N", help="how many printers (default: %(default)s)")
    up.add_argument("--gateways", type=int, default=2, metavar="N", help="how many, 2 at most (default: %(default)s)")
    up.add_argument("--subnet", default="10.77.0", help="first three numbers of a /24 (default: %(default)s)")
    up.add_argument(
        "--delay",
        action="append",
        default=[],
        metavar="HOST=MS",
        help="add a round-trip time to a host's link; may be repeated",
    )
    up.add_argument("--wait-klippy", action="store_true", help="also wait until klippy is ready on every host")
    command("status", _status, "show hosts, boards and what runs on them", root=False)
    command("inventory", _inventory, "print a pyinfra inventory of the lab, to redirect to a file", root=False)
    command("down", _down, "remove a lab, also one that a crash has left half up")
    command("press", _on_host(_press), "press a board's boot button", "host", "board")
    command("plug", _on_host(lambda host, args: host.plug(args.board)), "plug a board in", "host", "board")
    command("unplug", _on_host(lambda host, args: host.unplug(args.board)), "pull a board out", "host", "board")
    printing = command("print", _print, "start a long print, or stop it", "host", root=False)
    printing.add_argument("--stop", action="store_true", help="stop the print")
    crash = command("crash", _on_host(_crash), "cut a host's power", "host")
    crash.add_argument("--keep-boards", action="store_true", help="the boards have a supply of their own")
    command("clock", _on_host(_clock), "move a host's wall clock; negative: back", "host", "seconds")
    command("start", _on_host(lambda host, _: host.start()), "power a host on", "host")
    command("stop", _on_host(lambda host, _: host.stop()), "shut a host down", "host")
    command("cut", _on_host(lambda host, _: host.link.cut()), "lose all packets of a host's link", "host")
    command("restore", _on_host(lambda host, _: host.link.restore()), "end a cut", "host")
    ssh = command("ssh", _ssh, "log in to a host, or run a command there", "host", root=False)
    ssh.add_argument("--user", default="pi", help="log in as (default: %(default)s)")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD", help="what to run there")


def _guarded(run: Run, root: bool) -> Run:
    """Show what the user can cause as one line."""

    def guarded(arguments: argparse.Namespace) -> int:
        try:
            if root:
                requirements.check_root()
            return run(arguments)
        except LabError as error:
            print(f"lab: {error}", file=sys.stderr)
            return 1

    return guarded


def _host(arguments: argparse.Namespace) -> Host:
    return Lab.open(arguments.name).host(arguments.host)


def _on_host(act: Callable[[Host, argparse.Namespace], None]) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        act(_host(arguments), arguments)
        return 0

    return run


def _say(line: str) -> None:
    print(line, flush=True)


def _up(arguments: argparse.Namespace) -> int:
    hosts = default_hosts(arguments.hosts, dict(_delay(text) for text in arguments.delay))
    hosts += gateway_hosts(arguments.gateways)
    lab = Lab.up(
        arguments.name,
        hosts,
        arguments.subnet,
        wait_klippy=KLIPPY_SECONDS if arguments.wait_klippy else 0.0,
        say=_say,
    )
    print(f"{len(lab.hosts)} hosts are up; ssh -F {lab.ssh_config} {lab.hosts[0].name}")
    return 0


def _delay(text: str) -> tuple[str, float]:
    host, _, milliseconds = text.partition("=")
    try:
        return host, float(milliseconds)
    except ValueError:
        raise LabError(f"--delay {text}: give HOST=MS, such as printer-1=80") from None


def _down(arguments: argparse.Namespace) -> int:
    print(f"lab {arguments.name} is down" if down(arguments.name) else f"no lab {arguments.name} is up")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    try:
        lab = Lab.open(arguments.name)
    except LabError:
        half = Layout(arguments.name).root.exists()
        print(f"lab {arguments.name} is {'half up: fleetflash lab down' if half else 'not up'}")
        others = [name for name in names() if name != arguments.name]
        if others:
            print(f"other labs: {', '.join(others)}")
        return 1
    for host in lab.hosts:
        asked = host.phase != "off" and not host.spec.bare
        klippy = host.moonraker.klippy_state(timeout=1.0) if asked else "-"
        delay = f"  +{host.spec.delay_ms:g} ms" if host.spec.delay_ms else ""
        print(f"{host.name}  {host.address}  {host.phase}  klippy {klippy}{delay}")
        for board in host.boards:
            port = host.port(board.spec.name) or "unplugged"
            print(f"  {board.spec.name}  {port}  {_board_status(board)}")
    return 0


def _inventory(arguments: argparse.Namespace) -> int:
    lab = Lab.open(arguments.name)
    hosts = [
        {
            "name": host.name,
            "address": host.address,
            "bare": host.spec.bare,
            "boards": [
                {
                    **{"name": spec.name, "mcu": spec.mcu, "entry": spec.entry, "kind": spec.kind},
                    "path": board_path(host.spec.boards, spec),
                }
                for spec in host.spec.boards
            ],
        }
        for host in lab.hosts
    ]
    if not TEMPLATE.is_file():
        raise LabError(f"{TEMPLATE} is not here: run it in the project's directory")
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(
        TEMPLATE.read_text()
    )
    places = {"key": lab.layout.key, "known_hosts": lab.layout.known_hosts}
    print(template.render(name=lab.name, hosts=hosts, **places), end="")
    return 0


def _board_status(board: Board) -> str:
    if not board.running:
        return "off"
    if not os.access(board.control.path, os.W_OK):
        return "running"
    try:
        status = board.control.status()
    except LabError as error:
        return str(error)
    return f"{status.get('mode')}  {status.get('version') or '-'}"


def _press(host: Host, arguments: argparse.Namespace) -> None:
    host.board(arguments.board).control.press()


def _crash(host: Host, arguments: argparse.Namespace) -> None:
    host.crash(keep_boards=arguments.keep_boards)


def _clock(host: Host, arguments: argparse.Namespace) -> None:
    try:
        seconds = float(arguments.seconds)
    except ValueError:
        raise LabError(f"{host.name}: {arguments.seconds!r} is no number of seconds, such as -3600") from None
    host.jump_clock(seconds)


def _print(arguments: argparse.Namespace) -> int:
    host = _host(arguments)
    if arguments.stop:
        host.stop_print()
    else:
        host.start_print()
    print(f"{host.name}: {host.moonraker.print_state()}")
    return 0


def _ssh(arguments: argparse.Namespace) -> int:
    host = _host(arguments)
    if not os.access(host.layout.key, os.R_OK):
        raise LabError(f"{host.layout.key} is not readable by this user; run it as who brought the lab up")
    command = ["ssh", "-F", str(Path(host.layout.ssh_config)), "-l", arguments.user, host.name, *arguments.words]
    sys.stdout.flush()
    os.execvp("ssh", command)
