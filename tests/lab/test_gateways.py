"""ESP32 gateways at printers' hosts: whole layouts through esptool, from the host's own and from here."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only, require_lab
from tests.lab.esptool import NVS, NVS_SIZE, Esptool
from tests.lab.fleet import FACTORY, NEXT, WANTED, journal, mcu_version, outcome, strike, wait_outcome
from tests.lab.gateways import APP, MAC, Gateways, gateways, status
from tests.lab.tools import TOOLS

pytestmark = pytest.mark.lab

#: For the lab's own application.
CONTRACT = """contract: 1
within: 8 s
settle: 500 ms
in_order:
  - {name: network, line: "wifi: connected"}
  - {name: ready, line: "gateway: ready"}
retry: {attempts: 2, pause: 100 ms}
"""
BOOT = ["accepted", "attempt", "log", "of", "reason", "verdict"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    require_lab()
    with gateways("test-gateways", "10.73.0", tmp_path_factory.mktemp("gateways")) as fleet:
        yield fleet


def test_a_printer_its_gateway_and_one_alone_are_flashed_in_one_run_and_the_next_resets_none(fleet: Gateways) -> None:
    printer, desk = fleet.lab.host("printer-1"), fleet.lab.host("desk")
    add = ["artifact", "add", str(fleet.directory / f"esp32s3-{WANTED}/flasher_args.json"), "--chip", "esp32s3"]
    assert fleet.fleetflash(*add, "--name", "tinybms-gateway").code == 0
    inventory = fleet.directory / "whole.py"
    alone = {**fleet.inventory["desk"], "firmware_version": WANTED}
    inventory.write_text(
        f"klipper_hosts = {[('printer-1', fleet.inventory['printer-1'])]!r}\ngateways = {[('desk', alone)]!r}\n"
    )
    esptool = Esptool(printer, fleet)
    settings = random.Random(1).randbytes(NVS_SIZE)
    esptool.run("write-flash", hex(NVS), esptool.put(settings))
    run = fleet.pyinfra(inventory)
    assert run.code == 0 and "3 boards: 3 flashed" in run.output, run.output
    for host in (printer, desk):
        assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert mcu_version(printer) == WANTED
    writing = [entry for entry in journal(printer) if entry["step"] == "writing" and entry["board"] == "gateway"]
    assert [entry["uid"] for entry in writing] == [MAC]
    before = [(status(host)["sectors_erased"], status(host)["resets"]) for host in (printer, desk)]
    again = fleet.pyinfra(inventory)
    assert again.code == 0 and "3 boards: 3 already current" in again.output, again.output
    assert again.line("printer-1/gateway", "assumed") and again.line("desk/gateway", "assumed")
    assert [(status(host)["sectors_erased"], status(host)["resets"]) for host in (printer, desk)] == before
    # Espressif's own tool says the same, part by part, and that the settings are as they were.
    parts = esptool.parts(fleet.directory / f"esp32-{WANTED}/flasher_args.json")
    assert esptool.run("verify-flash", *parts).lower().count("verification successful") == len(parts) // 2 >= 3
    assert esptool.read(NVS, NVS_SIZE) == settings
    assert (status(printer)["version"], status(printer)["mode"]) == (WANTED, "application")


def test_a_gateway_whose_host_has_no_esptool_is_written_from_here(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-2")
    plan = fleet.plan(fleet.write_inventory("printer-2"))
    assert plan.line("gateway", "flash"), plan.output
    run = fleet.flash("printer-2", WANTED)
    assert run.code == 0, run.output
    assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert "already current" in fleet.flash("printer-2", WANTED).output


@full_only
def test_a_host_that_shall_write_itself_and_can_not_is_refused_before_anything_stops(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-2")
    assert fleet.flash("printer-2", WANTED).code == 0
    started = host.run("systemctl show -P ExecMainStartTimestampMonotonic klipper", check=True).stdout
    run = fleet.flash("printer-2", NEXT, placement="host")
    assert run.code == 3, run.output
    assert run.line("gateway", f"no esptool in {TOOLS}; install it as root")
    assert host.run("systemctl show -P ExecMainStartTimestampMonotonic klipper", check=True).stdout == started


@full_only
@pytest.mark.parametrize("name", ["printer-1", "printer-2"])
def test_a_gateway_that_dies_in_the_middle_gets_its_former_firmware(fleet: Gateways, name: str) -> None:
    host = fleet.lab.host(name)
    assert fleet.flash(name, WANTED).code == 0
    host.board("gateway").control.ask("fault", kind="drop", command="program", byte=APP + 0x3000, count=1)
    run = fleet.flash(name, NEXT)
    assert run.code == 1, run.output
    assert run.line(f"{name}/gateway: restored")
    assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert outcome(host)["outcome"] == "restored"
    assert "ready" in host.run("systemctl is-active klipper && echo ready", check=True).stdout


@full_only
def test_an_application_that_does_not_stay_is_taken_back(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-1")
    assert fleet.flash("printer-1", WANTED).code == 0
    # The first start is the one at esptool's end, the second the one that is listened to.
    host.board("gateway").control.ask("fault", kind="boot_loop", count=6)
    run = fleet.flash("printer-1", NEXT)
    assert run.code == 1, run.output
    assert run.line("gateway", "does not run", "abort() was called")
    assert status(host)["version"] == WANTED


@full_only
def test_a_boot_is_judged_tried_again_and_taken_back_by_the_host(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-1")
    wanted, other = (NEXT, WANTED) if status(host)["version"] == WANTED else (WANTED, NEXT)
    contract = fleet.directory / "boot.yaml"
    contract.write_text(CONTRACT)
    control = host.board("gateway").control
    # The first start is the one at esptool's end, the second that of the first attempt.
    control.ask("fault", kind="missing_line", text="gateway: ready", version=wanted, count=2)
    retried = fleet.flash("printer-1", wanted, contract=str(contract))
    control.ask("clear_faults")
    assert retried.code == 0, retried.output
    assert retried.line("gateway", "accepted at attempt 2 of 2", "'ready' (boot.yaml:6): never came"), retried.output
    assert sorted(outcome(host)["boards"]["gateway"]["boots"][0]) == BOOT
    control.ask("fault", kind="panic", version=other, count=10_000)
    rejected = fleet.flash("printer-1", other, contract=str(contract))
    control.ask("clear_faults")
    assert rejected.code == 1, rejected.output
    assert rejected.line("gateway", "'panics'", "must not come", "Guru Meditation Error", "in 2 attempts")
    assert (status(host)["version"], status(host)["mode"]) == (wanted, "application")
    newest = max((fleet.logs / "printer-1").iterdir())
    assert [path.name for path in sorted(newest.iterdir())] == [f"monitor-gateway-{number}.log" for number in (1, 2, 3)]
    judged = fleet.fleetflash("accept", str(contract), str(newest / "monitor-gateway-1.log"))
    assert judged.code == 1 and judged.line("FAIL panics"), judged.output
    # The last one is that of the way back, which is accepted as it was before.
    assert f"App version:      {wanted}" in (newest / "monitor-gateway-3.log").read_text()
    assert rejected.line("The new firmware panicked"), rejected.output
    bundle = fleet.directory / "incidents" / f"{newest.name}-printer-1"
    told = json.loads((bundle / "incident.json").read_text())
    assert (told["cause"], told["outcome"]) == ("panic", "restored")
    first, last = ((bundle / f"boots/gateway-{number}.txt").read_text() for number in (1, 3))
    assert "FAIL panics" in first and "panic in line" in first
    assert (
        "nothing was wrong with it" in last
        and "accepted by boot.yaml" in last
        and (bundle / "logs/monitor-gateway-3.log").is_file()
    )


def test_another_board_on_the_port_is_refused(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-1")
    before = status(host)["version"]
    run = fleet.flash("printer-1", NEXT if before != NEXT else WANTED, uid="240ac4ffffff")
    assert run.code == 1
    assert run.line("gateway", f"found the board with unique id {MAC}, expected 240ac4ffffff")
    assert status(host)["version"] == before
    assert status(host)["mode"] == "application"


@full_only
def test_a_lost_controller_leaves_the_gateway_to_the_next_run(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-2")
    assert fleet.flash("printer-2", WANTED).code == 0
    boards = fleet.inventory["printer-2"]["boards"]
    changed = {**boards, "gateway": {**boards["gateway"], "firmware_version": NEXT}}
    running = fleet.start_pyinfra(fleet.write_inventory("printer-2", printer_2={"boards": changed}))
    strike(host, "gateway", "program", APP + 0x3000, running.kill)
    running.wait()
    wait_outcome(host)
    assert outcome(host)["outcome"] == "failed"
    assert "run again" in outcome(host)["boards"]["gateway"]["detail"]
    assert host.run("systemctl is-active klipper", check=True).stdout.strip() == "active"
    again = fleet.flash("printer-2", NEXT)
    assert again.code == 0, again.output
    assert (status(host)["version"], status(host)["mode"]) == (NEXT, "application")


def test_a_gateway_is_backed_up_and_brought_back_as_a_printer_s_board_is(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert fleet.desk(WANTED).code == 0
    kept = fleet.desk(WANTED, deploy="deploys/backup.py")
    assert kept.code == 0 and kept.line("desk", "gateway", "backed-up"), kept.output
    newer = fleet.desk(NEXT)
    assert newer.code == 0 and status(host)["version"] == NEXT, newer.output
    back = fleet.desk(NEXT, "to=previous", deploy="deploys/rollback.py")
    assert back.code == 0 and (status(host)["version"], status(host)["mode"]) == (WANTED, "application"), back.output
    counted = status(host)["sectors_erased"]
    held = fleet.desk(NEXT)
    assert held.code == 4 and held.line("desk/gateway: held"), held.output
    pinned = fleet.desk(WANTED)
    assert pinned.code == 0 and pinned.line("the hold is lifted") and "1 already current" in pinned.output
    assert status(host)["sectors_erased"] == counted


@full_only
def test_a_gateway_without_a_printer_is_read_before_it_is_written_and_taken_back(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    # What somebody has written by hand, and nobody has registered.
    Esptool(host, fleet).write(fleet.build("esp32s3", FACTORY))
    host.run("sudo rm -f /var/lib/fleetflash/boards/gateway.json", check=True)
    before = host.board("gateway").flash.read_bytes()
    host.board("gateway").control.ask("fault", kind="drop", command="program", byte=APP + 0x3000, count=1)
    failed = fleet.desk(WANTED)
    assert failed.code == 1, failed.output
    assert failed.line("desk/gateway: restored")
    assert host.board("gateway").flash.read_bytes() == before
    assert status(host)["version"] == FACTORY
    done = fleet.desk(WANTED)
    assert done.code == 0, done.output
    assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert not host.run("ls /run/systemd/system | grep klipper").stdout
    again = fleet.desk(WANTED)
    assert again.code == 0 and "1 already current" in again.output, again.output


@full_only
def test_a_power_cut_on_a_host_without_klipper_is_settled_when_it_is_back(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert fleet.desk(WANTED).code == 0
    path = fleet.directory / "cut.py"
    data = {**fleet.inventory["desk"], "firmware_version": NEXT}
    path.write_text(f"gateways = {[('desk', data)]!r}\n")
    running = fleet.start_pyinfra(path, store=str(fleet.directory / "desk"))
    strike(host, "gateway", "program", APP + 0x3000, host.crash)
    running.kill()
    running.wait()
    host.start()
    wait_outcome(host)
    assert outcome(host)["outcome"] == "restored", outcome(host)
    assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert not host.run("ls /etc/systemd/system | grep fleetflash").stdout


@full_only
def test_a_gateway_by_hand_through_its_forwarded_port(fleet: Gateways, tmp_path: Path) -> None:
    host = fleet.lab.host("desk")
    assert fleet.desk(WANTED).code == 0
    device = fleet.inventory["desk"]["boards"]["gateway"]["port"]
    url = f"fleetflash://pi@desk{device}?ssh_config={fleet.lab.ssh_config}"
    chip = ["--programmer", "esptool", "--chip", "esp32s3"]
    info = fleet.fleetflash("port", "info", url, *chip)
    assert info.line("chip", "esp32s3") and info.line("unique id", MAC), info.output
    newer = str(fleet.directory / f"esp32s3-{NEXT}/flasher_args.json")
    backup = tmp_path / "before.bin"
    flashed = fleet.fleetflash("port", "flash", url, newer, *chip, "--backup", str(backup))
    assert flashed.code == 0 and flashed.line("written and verified", NEXT), flashed.output
    assert len(backup.read_bytes()) == 4 << 20
    assert (status(host)["version"], status(host)["mode"]) == (NEXT, "application")
    assert fleet.fleetflash("port", "verify", url, newer, *chip).code == 0
    # What was read is a file that any tool takes, and this one, too.
    back = fleet.fleetflash("port", "flash", url, str(backup), *chip, "--no-way-back")
    assert back.code == 0 and back.line("written and verified", WANTED), back.output
    assert host.board("gateway").flash.read_bytes() == backup.read_bytes()
    other = fleet.fleetflash("port", "info", url, "--programmer", "esptool", "--chip", "esp32")
    assert other.code == 1 and other.line("found chip esp32s3, expected esp32")
    wait_for_application(host)


def wait_for_application(host: Host) -> None:
    """A refused board starts its application again."""
    deadline = time.monotonic() + 20
    while status(host)["mode"] != "application":
        assert time.monotonic() < deadline, "it stays in its ROM loader"
        time.sleep(0.1)
