"""A printer whose second MCU is a process of its own: flashed, left alone, taken back, and never left stopped."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab import host_mcu
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import FACTORY, WANTED, Fleet, journal, mcu_version, outcome, wait_settled

PROGRAM, PTY, UNIT = "/usr/local/bin/klipper_mcu", "/tmp/klipper_host_mcu", "klipper-mcu.service"
ROOT = Path(__file__).parents[2]
#: What a broken program does: it runs, and says nothing.
SILENT = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


class Printer(Fleet):
    """One printer, ``printer-1``, with a board and the process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for version in (FACTORY, WANTED):
            path = self.directory / f"klipper-{version}.elf"
            path.write_bytes(self.program(version))
            added = self.fleetflash("artifact", "add", str(path), "--chip", "linux", "--name", "host-mcu")
            assert added.code == 0 and version in added.output, added.output

    def program(self, version: str) -> bytes:
        return host_mcu.build_program(version, self.directory)

    def describe(self, host: Host, **boards: dict[str, Any]) -> dict[str, Any]:
        described = super().describe(host)
        described["boards"]["host"] = {
            "port": PTY,
            "klippy_mcu": "host",
            "chip": "linux",
            "programmer": "linux_process",
            "firmware": "host-mcu",
            **boards.get("host", {}),
        }
        return described

    def inventory_of(self, version: str, **board: Any) -> Path:
        described = self.inventory["printer-1"]["boards"]
        host = {"host": {**described["host"], "firmware_version": version, **board}}
        return self.write_inventory(printer_1={"boards": host})


def install(host: Host, program: bytes, directory: Path) -> None:
    """Put the process on the host, as Klipper's docs/RPi_microcontroller.md does."""
    archive = shutil.make_archive(str(directory / "lab"), "tar", ROOT, "fleetflash/lab")
    for path, content in ((PROGRAM, program), ("/tmp/lab.tar", Path(archive).read_bytes())):
        place = host.root / "home/pi" / Path(path).name
        place.write_bytes(content)
        host.run(f"sudo install -m 755 /home/pi/{place.name} {path}", check=True)
    host.run(f"sudo tee /etc/systemd/system/{UNIT} > /dev/null", stdin=host_mcu.UNIT, check=True)
    section = "\n[mcu host]\nserial: /tmp/klipper_host_mcu\n"
    for command in (
        "sudo mkdir -p /opt/host-mcu && sudo tar -C /opt/host-mcu -xf /tmp/lab.tar",
        "sudo touch /opt/host-mcu/fleetflash/__init__.py",
        "sudo usermod -a -G tty pi && sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {UNIT}",
    ):
        host.run(command, check=True)
    host.run("cat >> printer_data/config/printer.cfg", stdin=section, check=True)
    host.run("sudo systemctl restart klipper", check=True)
    host.wait_klippy("ready", 60.0)


@pytest.fixture(scope="module")
def printer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printer]:
    require_lab()
    name, subnet = os.environ.get("FLEETFLASH_TEST_PROCESS", "test-process=10.74.0").split("=")
    board = BoardSpec("bmcu", uid="cdab1a35e2bdc99e")
    with Lab.up(name, (HostSpec("printer-1", (board,)),), subnet, wait_klippy=90.0) as lab:
        found = Printer(lab, tmp_path_factory.mktemp("process"))
        install(lab.host("printer-1"), found.program(FACTORY), found.directory)
        yield found
    assert leftovers(lab.layout) == []


def installed(host: Host) -> bytes:
    return (host.root / PROGRAM.lstrip("/")).read_bytes()


def runs(host: Host) -> bool:
    return host.run(f"systemctl is-active {UNIT}").stdout.strip() == "active"


@pytest.mark.lab
def test_process_is_flashed_klipper_says_its_version_and_the_next_run_changes_nothing(printer: Printer) -> None:
    host = printer.lab.host("printer-1")
    assert mcu_version(host, "host") == FACTORY
    run = printer.pyinfra(printer.inventory_of(WANTED))
    assert run.code == 0, run.output
    assert mcu_version(host, "host") == WANTED and installed(host) == printer.program(WANTED) and runs(host)
    again = printer.pyinfra(printer.inventory_of(WANTED))
    assert again.code == 0 and "1 already current" in again.output, again.output


@full_only
@pytest.mark.lab
def test_program_that_says_nothing_is_taken_back_to_what_was_read_before(printer: Printer) -> None:
    host = printer.lab.host("printer-1")
    before = installed(host)
    version = mcu_version(host, "host")
    source, silent = printer.directory / "silent.c", printer.directory / "silent"
    source.write_text(SILENT)
    subprocess.run(["gcc", "-o", str(silent), str(source)], check=True)
    # It has the dictionary of a good one, so nothing but the running board can tell.
    claimed = host_mcu.build_program("v9.9.9", printer.directory)
    launcher = (printer.directory / "launcher").read_bytes()
    path = printer.directory / "bad.elf"
    path.write_bytes(silent.read_bytes() + claimed[len(launcher) :])
    store = str(printer.directory / "only-bad")
    added = printer.fleetflash("artifact", "add", str(path), "--chip", "linux", "--name", "host-mcu", "--store", store)
    assert added.code == 0, added.output
    run = printer.pyinfra(printer.inventory_of("v9.9.9"), store=store)
    assert run.code == 1 and run.line("printer-1/host: restored"), run.output
    assert installed(host) == before and runs(host)
    host.wait_klippy("ready", 60.0)
    assert mcu_version(host, "host") == version
    assert any(entry["step"] == "backed-up" for entry in journal(host))


@pytest.mark.lab
@pytest.mark.parametrize("state", ["deactivating", pytest.param("activating", marks=full_only)])
def test_agent_that_is_killed_in_the_middle_leaves_the_service_running(printer: Printer, state: str) -> None:
    """Before its program is replaced, and before the new one runs: both take a moment here."""
    host = printer.lab.host("printer-1")
    slow = "[Service]\nExecStartPre=/bin/sleep 2\nExecStopPost=/bin/sleep 2\n"
    host.run(f"sudo mkdir -p /run/systemd/system/{UNIT}.d", check=True)
    host.run(f"sudo tee /run/systemd/system/{UNIT}.d/slow.conf > /dev/null", stdin=slow, check=True)
    host.run("sudo systemctl daemon-reload", check=True)
    wanted = FACTORY if mcu_version(host, "host") == WANTED else WANTED
    process = printer.start_pyinfra(printer.inventory_of(wanted))
    waiting = f"until systemctl is-active {UNIT} | grep -qx {state}; do sleep 0.05; done"
    host.run(f"{waiting}; sudo systemctl kill -s KILL fleetflash.service", check=True)
    printer.finish(process)
    wait_settled(host)
    host.wait_klippy("ready", 60.0)
    assert runs(host) and outcome(host)["outcome"] in ("restored", "failed", "committed")
    run = printer.pyinfra(printer.inventory_of(wanted))
    assert run.code == 0 and mcu_version(host, "host") == wanted, run.output
