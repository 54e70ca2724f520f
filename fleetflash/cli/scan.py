"""``fleetflash scan HOST…``: look at printers as they are and print what to write into the inventory."""

import argparse
import sys
from pprint import pformat

from fleetflash.agent.schema import McuSection, PortFacts, Snapshot, SnapshotRequest
from fleetflash.facts.snapshot import take
from fleetflash.link.errors import LinkError
from fleetflash.link.ssh import connect

BY_ID = "/dev/serial/by-id/"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("scan", help="print the inventory entry of a live printer", description=__doc__)
    parser.add_argument("hosts", nargs="+", metavar="HOST", help="name as for ssh, or USER@NAME")
    parser.add_argument("--ssh-config", metavar="FILE", help="instead of ~/.ssh/config")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    failures = 0
    print("klipper_hosts = [")
    for name in arguments.hosts:
        user, _, host = name.rpartition("@")
        try:
            with connect(host, user or None, ssh_config=arguments.ssh_config) as connection:
                snapshot = take(connection.transport, host, SnapshotRequest([]))
        except LinkError as error:
            print(f"fleetflash scan: {error}", file=sys.stderr)
            failures += 1
            continue
        print(stanza(host, user, snapshot))
    print("]")
    return 3 if failures else 0


def stanza(host: str, user: str, snapshot: Snapshot) -> str:
    """Return a host's inventory entry, with a comment for everything that a person has to look at."""
    boards: dict[str, dict[str, str]] = {}
    comments = [f"Python {snapshot.python}, {snapshot.service.unit} is {snapshot.service.active}"]
    if snapshot.sudo:
        comments.append(f"can't be flashed yet: {snapshot.sudo}")
    if not snapshot.sections:
        comments.append(f"klippy can't be asked for its boards: {snapshot.service.error or 'it is not running'}")
    claimed = set()
    for section in snapshot.sections:
        port, comment = _port(section, snapshot)
        if port is not None:
            claimed.add(port.device)
        boards[section.name] = {
            "port": (port.by_path or [port.device])[0] if port else section.serial,
            "klippy_mcu": section.name,
        }
        running = section.firmware
        mcu = running.constants.get("MCU", "unknown chip")
        comments.append(
            f"{section.name}: {mcu} runs {running.version or running.error}; set chip and firmware{comment}"
        )
    for port in snapshot.ports:
        if port.device not in claimed:
            where = (port.by_path or [port.device])[0]
            comments.append(f"{where} ({port.usb or 'not USB'}): Klipper doesn't use it")
    data = {"ssh_user": user, "boards": boards} if user else {"boards": boards}
    lines = [f"    # {comment}" for comment in comments]
    entry = pformat((host, data), width=110, sort_dicts=False)
    return "\n".join([*lines, *(f"    {line}" for line in entry.splitlines())]) + ","


def _port(section: McuSection, snapshot: Snapshot) -> tuple[PortFacts | None, str]:
    """Return the device behind a section's serial port, and what is doubtful about it."""
    if not section.serial.startswith("/"):
        return None, '; it is on a CAN bus: programmer "katapult_can" when Katapult is in front of it'
    if section.firmware.constants.get("MCU") == "linux":
        return None, '; it is a process of the host: programmer "linux_process", chip "linux"'
    names = {name: port for port in snapshot.ports for name in (port.device, *port.by_id, *port.by_path)}
    port = names.get(section.serial)
    if port is None:
        return None, f"; its port {section.serial} is not there"
    twins = [other.device for other in snapshot.ports if other.usb and other.usb == port.usb and other is not port]
    if twins and section.serial.startswith(BY_ID):
        return port, f"; AMBIGUOUS: {' and '.join([port.device, *twins])} share the name {section.serial}"
    return port, ""
