"""A fleet in the lab for tests: real hosts, the stock pyinfra command, and a way to strike at a chosen step."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab

ROOT = Path(__file__).parents[2]
FACTORY, WANTED, NEXT = "v0.11.0", "v0.12.0", "v0.13.0"
CHIP, FIRMWARE = "ch32v203c8t6", "klipper-bmcu-c"
PORT = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{}:1.0-port0"


@dataclass
class Run:
    """A finished command."""

    code: int
    output: str

    def line(self, *words: str) -> str:
        """Return the first line that holds all of ``words``, or fail."""
        for line in self.output.splitlines():
            if all(word in line for word in words):
                return line
        raise AssertionError(f"no line with {words} in:\n{self.output}")


@dataclass
class Fleet:
    """Runs fleetflash against hosts of a lab; ``inventory`` maps host names to their pyinfra data."""

    lab: Lab
    directory: Path
    inventory: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for version in (FACTORY, WANTED, NEXT):
            label = ["--label", "factory"] if version == FACTORY else []
            add = ["artifact", "add", str(self.lab.image(version)), "--chip", CHIP, "--name", FIRMWARE, *label]
            assert self.fleetflash(*add).code == 0
        for host in self.lab.hosts:
            self.inventory[host.name] = self.describe(host)

    @property
    def logs(self) -> Path:
        """Where boot logs of gateways are kept."""
        return self.directory / "logs"

    def describe(self, host: Host, **boards: dict[str, Any]) -> dict[str, Any]:
        """Return a host's inventory data; ``boards`` overrides fields of its boards (``-`` written as ``_``)."""
        described = {}
        for number, board in enumerate(host.boards, 1):
            name = board.spec.name
            described[name] = {
                "port": PORT.format(number),
                "klippy_mcu": board.spec.mcu,
                "wiring": "reset=rts:0,boot=dtr:0",
            }
            described[name].update(boards.get(name.replace("-", "_"), {}))
        return {
            "ssh_hostname": host.address,
            "ssh_user": "pi",
            "ssh_key": str(self.lab.layout.key),
            "ssh_known_hosts_file": str(self.lab.layout.known_hosts),
            "boards": described,
        }

    def write_inventory(self, *names: str, **changes: dict[str, Any]) -> Path:
        """Write an inventory of ``names`` (all hosts by default); ``changes`` override hosts' data (``-`` as ``_``)."""
        hosts = [
            (name, {**self.inventory[name], **changes.get(name.replace("-", "_"), {})})
            for name in names or self.inventory
        ]
        path = self.directory / f"fleet-{time.monotonic_ns()}.py"
        path.write_text(f"klipper_hosts = {hosts!r}\n")
        return path

    def fleetflash(self, *arguments: str) -> Run:
        return self.finish(self._start("fleetflash", *arguments))

    def plan(self, inventory: Path, *data: str) -> Run:
        return self.fleetflash("plan", str(inventory), *_data(data))

    def pyinfra(
        self,
        inventory: Path,
        *data: str,
        deploy: str = "deploys/flash.py",
        yes: bool = True,
        store: str = "",
        limit: str = "",
        patience: float = 240.0,
    ) -> Run:
        process = self.start_pyinfra(inventory, *data, deploy=deploy, yes=yes, store=store, limit=limit)
        return self.finish(process, patience)

    def start_pyinfra(
        self,
        inventory: Path,
        *data: str,
        deploy: str = "deploys/flash.py",
        yes: bool = True,
        store: str = "",
        limit: str = "",
    ) -> "subprocess.Popen[str]":
        chosen = ["--limit", limit] if limit else []
        arguments = [str(inventory), deploy, "-y" if yes else "--dry", *chosen, *_data(data)]
        return self._start("pyinfra", *arguments, store=store)

    def image(self, host: Host, version: str) -> bytes:
        """The firmware of a host's boards."""
        return self.lab.image(version).read_bytes()

    def factory(self, host: Host) -> bytes:
        """What the flash of a host's boards begins with when they leave the factory."""
        return self.image(host, FACTORY)

    def offset(self, host: Host) -> int:
        """Where in the flash of a host's boards their firmware begins."""
        return 0

    def start_fleetflash(self, *arguments: str) -> "subprocess.Popen[str]":
        return self._start("fleetflash", *arguments)

    def store_of(self, host: Host, version: str) -> str:
        """A store of artifacts that has nothing but this version, nor any factory image."""
        path = self.directory / f"only-{version}"
        with self._lock:
            if not path.exists():
                add = ["artifact", "add", str(self.lab.image(version)), "--chip", CHIP, "--name", FIRMWARE]
                assert self.fleetflash(*add, "--store", str(path)).code == 0
        return str(path)

    def _start(self, module: str, *arguments: str, store: str = "") -> "subprocess.Popen[str]":
        places = {"FLEETFLASH_STORE": store or str(self.directory / "store"), "FLEETFLASH_LOGS": str(self.logs)}
        environment = {**os.environ, **places}
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: "subprocess.Popen[str]", patience: float = 240.0) -> Run:
        """Wait for a started command, for ``patience`` seconds at most."""
        try:
            output, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Run(process.returncode, output)

    def reset(self, *hosts: Host) -> None:
        """Bring hosts back to the factory firmware, without anything that fleetflash has left there."""
        with ThreadPoolExecutor(max(1, len(hosts))) as pool:
            list(pool.map(self._reset, hosts))

    def _reset(self, host: Host) -> None:
        if host.phase == "off":
            host.start()
        host.run("sudo systemctl stop klipper fleetflash.service; sudo rm -rf /var/lib/fleetflash; sync /var/lib")
        for board in host.boards:
            host.unplug(board.spec.name)
            board.make(self.factory(host))
            host.plug(board.spec.name)
        host.run("sudo systemctl reset-failed klipper; sudo systemctl start klipper", check=True)
        host.wait_klippy("ready", 60.0)


def _data(items: tuple[str, ...]) -> list[str]:
    return [word for item in items for word in ("--data", item)]


@dataclass(frozen=True)
class Gate:
    """A point that a flash passes before the one that is meant; ``faults``: what else is planned from there on."""

    command: str
    byte: int
    faults: tuple[dict[str, Any], ...] = ()


def strike(
    host: Host,
    board: str,
    command: str,
    byte: int,
    act: Callable[[], None],
    *,
    deadly: bool = False,
    gate: Gate | None = None,
) -> None:
    """Have the board pause before it executes ``command`` at ``byte``, ``act``, and let it go on if it still can.

    ``deadly``: whoever talks to the board will not outlive ``act``. On a busy machine that may come later than the
    reset by which a silent bootloader is asked again, so the board stands still there, too. ``gate``: only what comes
    after it is meant.
    """
    control = host.board(board).control
    if command == "klipper" and gate is None:
        # Only the first word of the new firmware is meant, not klippy's talk with the old one.
        gate = Gate("end", 0)
    pause: dict[str, Any] = {"kind": "pause", "command": command, "byte": byte, "count": 100 if deadly else 1}
    if gate is None:
        control.ask("fault", **pause)
    else:
        control.ask("fault", kind="gate", command=gate.command, byte=gate.byte, then=[*gate.faults, pause])
    # A new firmware that says nothing has klippy's patience first.
    control.wait_paused(180.0)
    act()
    if not host.board(board).running:
        return
    if deadly:
        control.ask("clear_faults")
    if control.status()["paused"]:
        control.resume()


def wait_settled(host: Host, seconds: float = 90.0) -> None:
    """Wait until no transaction runs on the host."""
    unit = "fleetflash.service"
    state = f"systemctl show -P ActiveState {unit} | grep -Eqx 'active|activating|deactivating|failed'"
    deadline = time.monotonic() + seconds
    while host.run(state).returncode == 0:
        assert time.monotonic() < deadline, f"{host.name}: the transaction does not end"
        time.sleep(0.5)


def wait_outcome(host: Host, seconds: float = 120.0) -> None:
    """Wait until the newest transaction has an outcome: after a power cut, the boot settles it."""
    newest = "ls -d /var/lib/fleetflash/transactions/*/ | tail -n 1"
    deadline = time.monotonic() + seconds
    while host.run(f"test -e $({newest})outcome.json").returncode:
        assert time.monotonic() < deadline, f"{host.name}: the transaction has no outcome"
        time.sleep(0.5)


def journal(host: Host) -> list[dict[str, Any]]:
    """Return the newest transaction's journal."""
    newest = "ls -d /var/lib/fleetflash/transactions/*/ | tail -n 1"
    lines = host.run(f"cat $({newest})journal.jsonl", check=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def outcome(host: Host) -> dict[str, Any]:
    newest = "ls -d /var/lib/fleetflash/transactions/*/ | tail -n 1"
    return dict(json.loads(host.run(f"cat $({newest})outcome.json", check=True).stdout))


def flash_holds(host: Host, board: str, image: bytes, offset: int = 0) -> bool:
    """Whether the chip's flash holds exactly the image from ``offset`` on."""
    return host.board(board).flash.read_bytes()[offset:][: len(image)] == image


def mcu_version(host: Host, mcu: str = "mcu") -> str:
    """Return what Moonraker says that a board runs."""
    name = "mcu" if mcu == "mcu" else f"mcu%20{mcu}"
    answer = host.run(f"curl -s 'http://127.0.0.1:7125/printer/objects/query?{name}'", check=False).stdout
    if not answer:
        answer = host.run(
            "python3 -c 'import urllib.request as u;"
            f'print(u.urlopen("http://127.0.0.1:7125/printer/objects/query?{name}").read().decode())\'',
            check=True,
        ).stdout
    status = json.loads(answer)["result"]["status"]
    return str(status[name.replace("%20", " ")]["mcu_version"])
