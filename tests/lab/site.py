"""A bare lab for ``deploys/site.py``: one printer with Moonraker, and two printers that are one host."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetflash.lab.host import Host
from fleetflash.lab.klipper import PRINT_FILE, PRINT_GCODE
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import BoardSpec, HostSpec, board_uid
from tests.lab.fleet import Fleet, Run
from tests.lab.site_source import VERSION, KlipperSource

SINGLE, DOUBLE = "bare-1", "bare-2"
CFG = "/home/pi/printer_data/config/printer.cfg"
MCUS = "/home/pi/printer_data/config/fleetflash-mcus.cfg"


def bare_hosts() -> tuple[HostSpec, ...]:
    boards = {SINGLE: (("bmcu", "mcu"),), DOUBLE: (("bmcu-a", "mcu"), ("bmcu-b", "bmcu_b"))}
    return tuple(
        HostSpec(name, tuple(BoardSpec(board, mcu, uid=board_uid(name, board)) for board, mcu in known), bare=True)
        for name, known in boards.items()
    )


class Site(Fleet):
    """Runs ``deploys/site.py``.

    It logs in to ``bare-1`` as pi, and to ``bare-2`` as root; the two printers of that are ``bare-2`` and ``bare-2b``.
    """

    source: KlipperSource

    def __init__(self, lab: Lab, directory: Path) -> None:
        super().__init__(lab, directory)
        self.source = KlipperSource(directory)
        single, double = self.inventory[SINGLE], self.inventory.pop(DOUBLE)
        for entry in (single, double):
            entry["build_cache"] = str(directory / "build")
        self.inventory[SINGLE] = {**single, "klipper": self.source.data(moonraker=True)}
        for number, (entry_name, board) in enumerate(((DOUBLE, "bmcu-a"), (f"{DOUBLE}b", "bmcu-b")), 1):
            self.inventory[entry_name] = {
                **double,
                "ssh_user": "root",
                "klipper": {**self.source.data(), "user": "pi"},
                "klipper_service": f"klipper-{number}.service",
                "klippy_socket": f"/home/pi/printer_{number}_data/comms/klippy.sock",
                "boards": {board: {**double["boards"][board], "klippy_mcu": "mcu"}},
            }

    @property
    def single(self) -> Host:
        return self.lab.host(SINGLE)

    @property
    def double(self) -> Host:
        return self.lab.host(DOUBLE)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve Klipper's repository to the hosts; yield its URL."""
        bridge, directory = f"{self.lab.spec.subnet}.1", self.source.repository.parent
        command = ["git", "daemon", "--export-all", "--reuseaddr", f"--listen={bridge}", f"--base-path={directory}"]
        daemon = subprocess.Popen([*command, str(directory)], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            url = f"git://{bridge}/{self.source.repository.name}"
            while subprocess.run(["git", "ls-remote", url], capture_output=True).returncode:
                assert daemon.poll() is None, "git daemon does not start"
                time.sleep(0.1)
            yield url
        finally:
            # git starts the daemon as a child of its own.
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait()

    def deploy(self, *names: str, ref: str = VERSION, yes: bool = True, **data: Any) -> Run:
        """Run the stock command for some entries (all by default) with other data."""
        inventory = self._write(names, ref, data)
        return self.pyinfra(inventory, deploy="deploys/site.py", yes=yes)

    def deploy_and_kill(self, moment: random.Random) -> str:
        """Kill the controller with SIGKILL somewhere in one of its operations; return in which."""
        process = self.start_pyinfra(self._write((), VERSION, {}), deploy="deploys/site.py")
        assert process.stdout is not None
        operations, operation = moment.randint(3, 15), ""
        for line in process.stdout:
            if "Starting operation" in line:
                operation, operations = line.strip(), operations - 1
                if not operations:
                    time.sleep(moment.uniform(0.0, 1.5))
                    process.kill()
        process.wait()
        return operation

    def _write(self, names: tuple[str, ...], ref: str, data: dict[str, Any]) -> Path:
        changes = {}
        for name in names or tuple(self.inventory):
            changes[name.replace("-", "_")] = {**data, "klipper": {**self.inventory[name]["klipper"], "ref": ref}}
        return self.write_inventory(*names, **changes)


def changes(run: Run) -> str:
    """Return how many operations changed something, as pyinfra's last line of results says; ``-`` for none."""
    return run.line("Grand total").split()[3]


def started(host: Host, *services: str) -> str:
    """Return when services were started, on a clock that only goes on."""
    asked = "ActiveState,ExecMainStartTimestampMonotonic"
    return host.run(f"systemctl show --property={asked} {' '.join(services)}", check=True).stdout


def begin_print(host: Host) -> None:
    gcode = host.root / "home/pi/printer_data/gcodes" / PRINT_FILE
    gcode.write_text(PRINT_GCODE)
    gcode.chmod(0o644)
    host.start_print()


def end_print(host: Host) -> None:
    """Stop the print, and wait until klippy has nothing left to do: it says so a moment later."""
    host.stop_print()
    deadline = time.monotonic() + 30.0
    while _activity(host) == "Printing":
        assert time.monotonic() < deadline, f"{host.name} is still printing"
        time.sleep(0.2)


def _activity(host: Host) -> str:
    return str(host.moonraker.ask("/printer/objects/query", idle_timeout="state")["status"]["idle_timeout"]["state"])


def strip(host: Host) -> None:
    """Make a host bare again."""
    host.run(
        "sudo systemctl stop 'klipper*' moonraker; "
        "sudo rm -rf ~/klipper* ~/.klipp* ~/.moonraker* ~/klippy-env* ~/moonraker-env* ~/printer_* "
        "/etc/systemd/system/klipper* /etc/systemd/system/moonraker* /etc/systemd/system/*.wants/klipper* "
        "/etc/systemd/system/*.wants/moonraker* /etc/sudoers.d/fleetflash /run/fleetflash-site /var/lib/fleetflash; "
        "sudo gpasswd -d pi dialout; sudo gpasswd -d pi tty; sudo systemctl daemon-reload; true",
        check=True,
    )
