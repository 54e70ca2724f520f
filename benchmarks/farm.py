"""A farm for benchmarks of ``deploys/site.py``: bare hosts of the lab with a board each, and their inventory."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import BoardSpec, HostSpec, board_uid
from tests.lab.fleet import Fleet
from tests.lab.site_source import KlipperSource

BOARD = "bmcu"
#: Converging a bare host: two virtualenvs, klippy's first start and a flash, on a core that it shares, in seconds.
PATIENCE_PER_HOST = 90.0


class Farm(Fleet):
    """Its hosts shall have Klipper, Moonraker and a flashed board."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        super().__init__(lab, directory)
        self.source = KlipperSource(directory)
        for entry in self.inventory.values():
            entry["build_cache"] = str(directory / "build")
            entry["klipper"] = self.source.data(moonraker=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a command of fleetflash needs to find the farm's artifacts."""
        return {"FLEETFLASH_STORE": str(self.directory / "store")}

    def converge(self, *names: str) -> str:
        """Bring hosts (all by default) to what they shall be; return what the run printed."""
        patience = PATIENCE_PER_HOST * (len(names) or len(self.inventory))
        run = self.pyinfra(self.write_inventory(*names), deploy="deploys/site.py", patience=patience)
        if run.code:
            raise RuntimeError(f"deploys/site.py exits {run.code}:\n{run.output}")
        return run.output


@contextmanager
def lab(hosts: int) -> Iterator[Lab]:
    """Bare hosts with a board each. Needs root."""
    # Whoever ends the benchmark must not be left with a lab.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Lab.up("noop", [_bare(f"bare-{number}") for number in range(1, hosts + 1)], "10.82.0") as up:
        yield up


def _bare(name: str) -> HostSpec:
    return HostSpec(name, (BoardSpec(BOARD, "mcu", uid=board_uid(name, BOARD)),), bare=True)


def strip(host: Host) -> None:
    """Take what ``deploys/site.py`` has brought off a host again, but for the ledger of its board."""
    host.run(
        "sudo systemctl disable --now klipper moonraker; "
        "sudo rm -rf ~/klipper ~/klippy-env ~/moonraker-env ~/.klippy-env-versions ~/.moonraker-env-versions "
        "~/printer_data /etc/systemd/system/klipper.service /etc/systemd/system/moonraker.service "
        "/etc/sudoers.d/fleetflash /run/fleetflash-site; "
        "sudo gpasswd -d pi dialout; sudo gpasswd -d pi tty; sudo systemctl daemon-reload",
        check=True,
    )
