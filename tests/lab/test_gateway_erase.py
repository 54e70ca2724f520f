"""A gateway's partitions are erased in the run that says so, in the usual transaction. Espressif's esptool judges."""

import random
from collections.abc import Iterator

import pytest

from tests.command_lines import command_lines
from tests.lab.conftest import full_only, require_lab
from tests.lab.esptool import NVS, NVS_SIZE, Esptool
from tests.lab.fleet import NEXT, WANTED, outcome, strike, wait_outcome
from tests.lab.gateways import APP, Gateways, gateways, status

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    require_lab()
    with gateways("test-gw-erase", "10.69.0", tmp_path_factory.mktemp("gateways")) as fleet:
        yield fleet


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


@full_only
def test_a_power_cut_after_a_partition_was_erased_brings_it_back(fleet: Gateways) -> None:
    host = fleet.lab.host("desk")
    assert fleet.desk(WANTED).code == 0
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
    assert fleet.desk(WANTED).code == 0 and "1 already current" in fleet.desk(WANTED).output
    assert host.board("gateway").flash.read_bytes() == before
