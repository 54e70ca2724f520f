"""ESP32 gateways at printers' hosts: whole layouts through esptool, from the host's own and from here."""

import base64
import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.host import Host
from tests.command_lines import command_lines
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import FACTORY, NEXT, WANTED, Run, journal, mcu_version, outcome, strike, wait_outcome
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
#: Where the lab's partition table has NVS.
NVS, NVS_SIZE = 0x9000, 0x4000
BOOT = ["accepted", "attempt", "log", "of", "reason", "verdict"]


class Esptool:
    """Espressif's command line, on a host of the lab and at its gateway's port."""

    def __init__(self, host: Host, fleet: Gateways) -> None:
        self._host = host
        self._port = fleet.inventory[host.name]["boards"]["gateway"]["port"]

    def put(self, data: bytes) -> str:
        """Bring a file to the host; return its name there."""
        name = f"/tmp/{hashlib.sha256(data).hexdigest()[:16]}.bin"
        self._host.run(f"base64 -d > {name}", stdin=base64.b64encode(data).decode(), check=True)
        return name

    def run(self, *arguments: str) -> str:
        command = f"sudo {TOOLS}/bin/python -m esptool --chip auto --port {self._port} --baud 460800"
        return self._host.run(f"{command} {' '.join(arguments)}", check=True).stdout

    def parts(self, build: Path) -> list[str]:
        """Bring the files of a ``flasher_args.json`` to the host; return each offset and name, as arguments."""
        files = json.loads(build.read_text())["flash_files"].items()
        return [word for offset, name in files for word in (offset, self.put((build.parent / name).read_bytes()))]

    def write(self, build: Path) -> None:
        self.run("write-flash", *self.parts(build))

    def read(self, offset: int, size: int) -> bytes:
        self.run("read-flash", hex(offset), hex(size), "/tmp/read.bin")
        return base64.b64decode(self._host.run("sudo base64 /tmp/read.bin", check=True).stdout)


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


def test_a_partition_is_erased_in_the_run_that_says_so_and_comes_back_with_the_way_back(fleet: Gateways) -> None:
    host = fleet.lab.host("printer-1")
    assert fleet.flash("printer-1", WANTED).code == 0
    esptool, control = Esptool(host, fleet), host.board("gateway").control
    settings = random.Random(2).randbytes(NVS_SIZE)
    esptool.run("write-flash", hex(NVS), esptool.put(settings))
    before = host.board("gateway").flash.read_bytes()
    plan = fleet.plan(fleet.pinned("printer-1", WANTED), "erase_now=gateway/nvs")
    assert plan.line("printer-1", "gateway", "read-back", "flash"), plan.output
    assert plan.line("printer-1/gateway", "erases nvs (16 KiB at 0x9000)"), plan.output
    for wrong, words in (("gateway/otadata", "which application starts"), ("gateway/nsv", "no partition 'nsv'")):
        refused = fleet.plan(fleet.pinned("printer-1", WANTED), f"erase_now={wrong}")
        assert refused.line("printer-1/gateway: refused", words), refused.output
    # It goes wrong: everything is as it was, what was erased, too.
    control.ask("fault", kind="boot_loop", count=6)
    failed = fleet.flash("printer-1", WANTED, "erase_now=gateway/nvs")
    control.ask("clear_faults")
    assert failed.code == 1 and failed.line("printer-1/gateway: restored"), failed.output
    assert host.board("gateway").flash.read_bytes() == before
    done = fleet.flash("printer-1", WANTED, "erase_now=gateway/nvs")
    assert done.code == 0 and done.line("printer-1/gateway", "erased nvs"), done.output
    assert esptool.read(NVS, NVS_SIZE) == b"\xff" * NVS_SIZE
    after = host.board("gateway").flash.read_bytes()
    assert after[:NVS] + after[NVS + NVS_SIZE :] == before[:NVS] + before[NVS + NVS_SIZE :]
    counted = (status(host)["sectors_erased"], status(host)["resets"])
    again = fleet.flash("printer-1", WANTED)
    assert again.code == 0 and "2 already current" in again.output, again.output
    assert (status(host)["sectors_erased"], status(host)["resets"]) == counted
    # Whoever wants the settings back goes back.
    back = fleet.pyinfra(fleet.pinned("printer-1", WANTED), "to=previous", deploy="deploys/rollback.py")
    assert back.code == 0, back.output
    assert esptool.read(NVS, NVS_SIZE) == settings
    for board in ("bmcu", "gateway"):
        assert fleet.fleetflash("hold", "clear", str(fleet.pinned("printer-1", WANTED)), "printer-1", board).code == 0


def test_what_a_gateway_has_stored_is_in_no_arguments_no_log_and_in_files_of_their_owner_alone(fleet: Gateways) -> None:
    host, canary = fleet.lab.host("printer-1"), b"c4nary7-wifi-password"
    other = NEXT if status(host)["version"] != NEXT else WANTED
    esptool = Esptool(host, fleet)
    stored = esptool.put(canary.ljust(NVS_SIZE, b"\xff"))
    esptool.run("write-flash", hex(NVS), stored)
    host.run(f"sudo rm -f {stored} /tmp/read.bin", check=True)
    with command_lines(b"fleetflash", b"esptool_worker") as seen:
        done = fleet.flash("printer-1", other, "erase_now=gateway/nvs")
    assert done.code == 0, done.output
    assert any(b"esptool_worker" in line for line in seen), "the hosts' processes were not seen"
    assert [line for line in seen if b"c4nary7" in line] == [] and "c4nary7" not in done.output
    places = "/var/lib/fleetflash /var/log /run/fleetflash /tmp /home"
    found = host.run(f"sudo grep -rl --binary-files=text 'c4nary[7]' {places}; sudo journalctl | grep -c 'c4nary[7]'")
    (image, count) = found.stdout.split()
    assert image.startswith("/var/lib/fleetflash/images/") and count == "0"
    assert host.run(f"sudo stat -c '%U %a' {image}", check=True).stdout.split() == ["root", "600"]
    here = [path for path in fleet.directory.rglob("*") if path.is_file() and canary in path.read_bytes()]
    assert here, "there is no copy of the backup"
    for path in here:
        own = [path, *path.relative_to(fleet.directory).parents]
        assert any((fleet.directory / each).stat().st_mode & 0o77 == 0 for each in own[:-1]), path


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


def desk(fleet: Gateways, version: str, *data: str, deploy: str = "deploys/flash.py") -> Run:
    """Flash the gateway without a printer, as its group's data say; its store has no factory image."""
    path = fleet.directory / f"desk-{version}.py"
    path.write_text(f"gateways = {[('desk', {**fleet.inventory['desk'], 'firmware_version': version})]!r}\n")
    return fleet.pyinfra(path, *data, deploy=deploy, store=str(fleet.directory / "desk"))


def test_a_gateway_is_backed_up_and_brought_back_as_a_printer_s_board_is(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert desk(fleet, WANTED).code == 0
    kept = desk(fleet, WANTED, deploy="deploys/backup.py")
    assert kept.code == 0 and kept.line("desk", "gateway", "backed-up"), kept.output
    newer = desk(fleet, NEXT)
    assert newer.code == 0 and status(host)["version"] == NEXT, newer.output
    back = desk(fleet, NEXT, "to=previous", deploy="deploys/rollback.py")
    assert back.code == 0 and (status(host)["version"], status(host)["mode"]) == (WANTED, "application"), back.output
    counted = status(host)["sectors_erased"]
    held = desk(fleet, NEXT)
    assert held.code == 4 and held.line("desk/gateway: held"), held.output
    pinned = desk(fleet, WANTED)
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
    failed = desk(fleet, WANTED)
    assert failed.code == 1, failed.output
    assert failed.line("desk/gateway: restored")
    assert host.board("gateway").flash.read_bytes() == before
    assert status(host)["version"] == FACTORY
    done = desk(fleet, WANTED)
    assert done.code == 0, done.output
    assert (status(host)["version"], status(host)["mode"]) == (WANTED, "application")
    assert not host.run("ls /run/systemd/system | grep klipper").stdout
    again = desk(fleet, WANTED)
    assert again.code == 0 and "1 already current" in again.output, again.output


@full_only
def test_a_power_cut_on_a_host_without_klipper_is_settled_when_it_is_back(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert desk(fleet, WANTED).code == 0
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
def test_a_power_cut_after_a_partition_was_erased_brings_it_back(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert desk(fleet, WANTED).code == 0
    esptool, settings = Esptool(host, fleet), random.Random(3).randbytes(NVS_SIZE)
    esptool.run("write-flash", hex(NVS), esptool.put(settings))
    host.run("sudo sync", check=True)
    before = host.board("gateway").flash.read_bytes()
    path = fleet.directory / "erased.py"
    path.write_text(f"gateways = {[('desk', {**fleet.inventory['desk'], 'firmware_version': NEXT})]!r}\n")
    running = fleet.start_pyinfra(path, "erase_now=gateway/nvs", store=str(fleet.directory / "desk"))
    # Parts are written in the order in which they lie.
    strike(host, "gateway", "program", APP + 0x3000, host.crash)
    running.kill()
    running.wait()
    assert host.board("gateway").flash.read_bytes()[NVS : NVS + NVS_SIZE] == b"\xff" * NVS_SIZE
    host.start()
    wait_outcome(host)
    assert outcome(host)["outcome"] == "restored", outcome(host)
    assert host.board("gateway").flash.read_bytes() == before
    # What was read back is no artifact, so it is compared with one once, which writes nothing.
    assert desk(fleet, WANTED).code == 0 and "1 already current" in desk(fleet, WANTED).output
    assert host.board("gateway").flash.read_bytes() == before


@full_only
def test_a_gateway_by_hand_through_its_forwarded_port(fleet: Gateways, tmp_path: Path) -> None:
    host = fleet.lab.host("desk")
    assert desk(fleet, WANTED).code == 0
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
