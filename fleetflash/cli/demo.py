"""``fleetflash demo``: the main job on the simulated lab, shown command by command."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

#: How the run asks for a person: host and board.
HANDS = re.compile(r"\[(?P<host>[\w.-]+)\]\s+(?P<board>[\w.-]+): NOW: ")

IMAGES = Path("/var/lib/fleetflash-lab/lab/images")
FACTORY, WANTED, GATEWAY_WANTED = "v0.11.0", "v0.12.0", "v1.0.0"
GATEWAYS = ("esp32", "esp32s3")

NEXT = """
Where to go next:
  pyinfra inventory/lab.py deploys/status.py -y       what every board runs
  pyinfra inventory/lab.py deploys/rollback.py -y --limit klipper_hosts --data attended=true --data to=factory
                                                      back to the factory's; printer-3 asks for its button:
  fleetflash lab press printer-3 bmcu                 the lab's operator presses it (from another terminal)
  fleetflash lab ssh printer-1                        look around on a printer
  fleetflash lab down                                 leave nothing behind
  inventory/lab.py, group_data/klipper_hosts.py       edit them into your own; inventory/example.py is a real farm
(all of them in .venv/bin)"""


class DemoError(Exception):
    """A step of the demonstration failed."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("demo", help="bring the simulated lab to its pinned firmware", description=__doc__)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if not Path("inventory/lab.py").is_file():
        print("fleetflash demo: run it in the project's directory, where inventory/lab.py is", file=sys.stderr)
        return 2
    try:
        _lab("down")
        _step(
            "Six Debian hosts with systemd, sshd, Klipper, Moonraker, eight BMCU-C boards; two with a gateway",
            lab=["up", "--wait-klippy"],
        )
        Path("artifacts").mkdir(exist_ok=True)
        add = ["artifact", "add", "--chip", "ch32v203c8t6", "--name", "klipper-bmcu-c"]
        _step(
            "The boards' factory image: a BMCU-C can't be read back, so this is the way back",
            [*add, "--label", "factory", str(IMAGES / f"{FACTORY}.bin")],
        )
        _step("The firmware that group_data/klipper_hosts.py pins", [*add, str(IMAGES / f"{WANTED}.bin")])
        gateway = ["artifact", "add", "--name", "tinybms-gateway"]
        for chip in GATEWAYS:
            build = IMAGES / f"{chip}-{GATEWAY_WANTED}" / "flasher_args.json"
            _step(f"The gateways' firmware, as ESP-IDF builds it, for {chip}", [*gateway, "--chip", chip, str(build)])
        _step("The plan", ["plan", "inventory/lab.py", "--data", "attended=true"], expected=2)
        _flash("The main job. printer-3 will ask for its button; the lab's operator presses it")
        _step("Do the gateways work? Web, API, MQTT and CAN", ["check", "inventory/lab.py"])
        _flash(
            "Once more: nothing changes, nothing is restarted, and no gateway is reset; one is asked, one has no API"
        )
    except DemoError as error:
        print(f"\nfleetflash demo: {error}", file=sys.stderr)
        return 1
    print(NEXT)
    return 0


def _step(title: str, command: list[str] | None = None, lab: list[str] | None = None, expected: int = 0) -> None:
    print(f"\n# {title}")
    if lab is not None:
        print(f"$ fleetflash lab {' '.join(lab)}", flush=True)
        _lab(*lab)
        return
    command = command or []
    print(f"$ fleetflash {' '.join(command)}", flush=True)
    _check(subprocess.run([*_fleetflash(), *command]).returncode, " ".join(command[:2]), expected)


def _lab(*arguments: str) -> None:
    """Only the lab itself needs root."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    _check(subprocess.run([*sudo, *_fleetflash(), "lab", *arguments]).returncode, f"lab {arguments[0]}", 0)


def _flash(title: str) -> None:
    """Run the stock pyinfra command; when it asks for hands, be the lab's operator."""
    command = ["pyinfra", "inventory/lab.py", "deploys/flash.py", "-y", "--data", "attended=true"]
    print(f"\n# {title}")
    print(f"$ {' '.join(command)}", flush=True)
    pyinfra = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert pyinfra.stdout is not None
    for line in pyinfra.stdout:
        print(line, end="", flush=True)
        if asked := HANDS.search(line):
            print(f"    (the operator presses the button of {asked['host']}/{asked['board']})", flush=True)
            _lab("press", asked["host"], asked["board"])
    _check(pyinfra.wait(), "pyinfra", 0)


def _fleetflash() -> list[str]:
    return [sys.executable, "-m", "fleetflash"]


def _check(code: int, what: str, expected: int) -> None:
    if code != expected:
        raise DemoError(f"{what} ended with exit code {code}; see above")
