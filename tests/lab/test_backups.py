"""Backups on real hosts: taken on demand and before every write, copied here, and a command that refuses a write."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import CHIP, FACTORY, FIRMWARE, WANTED, Fleet, Run, journal, outcome, strike, wait_outcome
from tests.lab.kinds import KINDS
from tests.lab.strikes import Scene, cut_power, kill_agent

AVR = KINDS["optiboot"]


class Bench(Fleet):
    """One printer with a BMCU-C, which can't be read, and an AVR board, which can."""

    def __post_init__(self) -> None:
        for version in (FACTORY, WANTED):
            self.register(self.lab.image(version), FIRMWARE, CHIP)
        new = self.directory / "avr.bin"
        new.write_bytes(AVR.image(WANTED))
        self.register(new, "avr", AVR.chip)
        avr = {"chip": AVR.chip, "programmer": AVR.programmer, "firmware": "avr", "wiring": ""}
        self.inventory["printer-1"] = self.describe(self.host, avr=avr)

    @property
    def host(self) -> Host:
        return self.lab.host("printer-1")

    def register(self, path: Path, name: str, chip: str) -> None:
        assert self.fleetflash("artifact", "add", str(path), "--name", name, "--chip", chip).code == 0

    def run(self, *data: str, deploy: str = "deploys/flash.py", **changes: Any) -> Run:
        inventory = self.write_inventory(printer_1={"firmware_version": WANTED, **changes})
        return self.pyinfra(inventory, *data, deploy=deploy)

    def backups(self) -> list[dict[str, Any]]:
        listed = self.fleetflash("backup", "list", "--json")
        assert listed.code == 0, listed.output
        return list(json.loads(listed.output))

    def flash(self) -> bytes:
        return self.host.board("avr").flash.read_bytes()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_lab()
    boards = (BoardSpec("bmcu"), BoardSpec("avr", mcu="avr", kind=AVR.simulated))
    name, subnet = os.environ.get("FLEETFLASH_TEST_BACKUPS", "test-backups=10.72.0").split("=")
    with Lab.up(name, (HostSpec("printer-1", boards),), subnet, wait_klippy=90.0) as lab:
        yield Bench(lab, tmp_path_factory.mktemp("backups"))
    assert leftovers(lab.layout) == []


@pytest.mark.lab
def test_a_backup_now_reads_what_can_be_read_and_leaves_the_printer_ready(bench: Bench) -> None:
    flash = bench.flash()
    run = bench.run('backup_reason="a new hotend"', deploy="deploys/backup.py")
    assert run.code == 0, run.output
    assert run.line("printer-1", "avr", "backed-up") and run.line("printer-1", "bmcu", "known-good only")
    bench.host.wait_klippy("ready", 5.0)
    assert bench.flash() == flash
    (kept,) = bench.backups()
    told = [kept[key] for key in ("host", "board", "kind", "chip", "reason")]
    assert told == ["printer-1", "avr", "read-back", AVR.chip, "a new hotend"]
    assert kept["image"]["version"] == FACTORY
    exported = bench.directory / "exported.bin"
    assert bench.fleetflash("backup", "export", kept["id"][:12], str(exported)).code == 0
    assert len(exported.read_bytes()) > 4096 and flash.startswith(exported.read_bytes())
    assert not [entry for entry in journal(bench.host) if entry["step"] == "writing"]


@full_only
@pytest.mark.lab
def test_a_command_that_fails_refuses_its_board_and_every_write_leaves_a_backup_here(bench: Bench) -> None:
    flash, boards = bench.flash(), bench.inventory["printer-1"]["boards"]
    failing = "/bin/sh -c 'echo saving $FLEETFLASH_BOARD as $(id -un); exit 9'"
    run = bench.run(boards={**boards, "avr": {**boards["avr"], "backup_command": failing}})
    assert run.code == 1 and run.line("printer-1", "avr", "failed"), run.output
    assert run.line("printer-1/avr: failed", "exit code 9, so nothing was erased", "saving avr as root")
    assert bench.flash() == flash and outcome(bench.host)["boards"]["bmcu"]["result"] == "flashed"
    run = bench.run(backup_command="/bin/sh -c 'echo $FLEETFLASH_BOARD $FLEETFLASH_TO > /root/saved'")
    assert run.code == 0 and bench.flash().startswith(AVR.image(WANTED)), run.output
    assert bench.host.run("sudo cat /root/saved", check=True).stdout == f"avr {WANTED}\n"
    kinds = {(kept["board"], kept["kind"], kept["reason"]) for kept in bench.backups()}
    before = f"before {WANTED} was written"
    assert kinds >= {("bmcu", "known-good", before), ("avr", "read-back", before)}
    assert bench.fleetflash("backup", "verify").output == "0 problems\n"


@full_only
@pytest.mark.lab
@pytest.mark.parametrize("dies", [kill_agent, cut_power])
def test_a_death_in_the_middle_of_a_backup_leaves_board_and_printer_as_they_were(
    bench: Bench, dies: Callable[[Scene], None]
) -> None:
    flash, inventory = bench.flash(), bench.write_inventory()
    process = bench.start_pyinfra(inventory, deploy="deploys/backup.py")
    strike(bench.host, "avr", "read", 8192, lambda: dies(Scene(bench, bench.host, "avr", process, inventory)))
    bench.finish(process)
    if bench.host.phase == "off":
        bench.host.start()
    wait_outcome(bench.host)
    bench.host.wait_klippy("ready", 60.0)
    assert bench.flash() == flash and outcome(bench.host)["outcome"] == "failed"
    again = bench.run(deploy="deploys/backup.py")
    assert again.code == 0 and again.line("printer-1", "avr", "backed-up"), again.output
