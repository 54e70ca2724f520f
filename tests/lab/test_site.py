"""From bare Debian hosts to printers with flashed boards, whatever comes in between, and nothing the second time."""

import os
import random
from collections.abc import Iterator

import pytest

from fleetflash.lab.lab import Lab, leftovers
from tests.lab.conftest import full_only, lab_name, require_lab
from tests.lab.fleet import WANTED, flash_holds, mcu_version
from tests.lab.site import CFG, DOUBLE, MCUS, SINGLE, Site, bare_hosts, begin_print, changes, end_print, started, strip
from tests.lab.site_source import NEXT, VERSION

pytestmark = pytest.mark.lab

KILLS = 10 if os.environ.get("FLEETFLASH_MATRIX") == "full" else 2
SEED = 5
#: What somebody has on an own Klipper host, and Klipper's own lines at its end.
OWN_CFG = "[printer]\nkinematics: none\nmax_velocity: 100\nmax_accel: 100\n\n[pause_resume]\n"
SAVED = "\n#*# <---------------------- SAVE_CONFIG ---------------------->\n#*# DO NOT EDIT THIS BLOCK OR BELOW.\n#*#\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_lab()
    name, subnet = lab_name()
    network, _, number = subnet.rpartition(".")
    with Lab.up(f"{name}-site", bare_hosts(), f"{network}.{int(number) + 3}") as lab:
        yield Site(lab, tmp_path_factory.mktemp("site"))
    assert leftovers(lab.layout) == []


@pytest.fixture(scope="module")
def converged(site: Site) -> Site:
    """The hosts, as they are after a run over bare ones that came after killed ones."""
    moment = random.Random(SEED)
    for number in range(KILLS):
        killed = site.deploy_and_kill(moment)
        if KILLS > 3 or number == KILLS - 1:
            run = site.deploy()
            assert run.code == 0, f"after a kill in {killed}:\n{run.output}"
        if number < KILLS - 1 and KILLS > 3:
            assert changes(site.deploy()) == "-", killed
            for host in site.lab.hosts:
                strip(host)
    return site


def test_a_dry_run_over_bare_hosts_shows_what_would_be_done_and_touches_nothing(site: Site) -> None:
    run = site.deploy(yes=False)
    assert run.code == 0 and "Traceback" not in run.output, run.output
    assert run.line("Klipper's source is at its commit", f"({SINGLE}, {DOUBLE})")
    for host in site.lab.hosts:
        there = host.run("ls -A ~ /var/lib/fleetflash /etc/sudoers.d; id -Gn", check=False).stdout
        assert "klipp" not in there and "fleetflash" not in there and "dialout" not in there


def test_bare_hosts_become_ready_printers_with_flashed_boards_although_controllers_died(converged: Site) -> None:
    image = converged.lab.image(WANTED).read_bytes()
    converged.single.wait_klippy("ready", 60.0)
    assert mcu_version(converged.single) == WANTED
    for host in converged.lab.hosts:
        assert all(flash_holds(host, board.spec.name, image) for board in host.boards), host.name
        described = host.run("git -C ~/klipper describe --tags; id -Gn pi", check=True).stdout
        assert VERSION in described and "dialout" in described
    granted = converged.single.run("sudo cat /etc/sudoers.d/fleetflash; sudo visudo -c", check=True).stdout
    assert "pi ALL=(root) NOPASSWD: /usr/bin/python3" in granted and "/etc/sudoers.d/fleetflash: parsed OK" in granted


def test_two_printers_of_one_host_run_side_by_side_each_with_its_own_board(converged: Site) -> None:
    plan = converged.plan(converged.write_inventory())
    for entry, board in ((DOUBLE, "bmcu-a"), (f"{DOUBLE}b", "bmcu-b")):
        assert plan.line(f"{entry} ", board, WANTED, " none")
    ports = converged.double.run("grep -h serial: ~/printer_*_data/config/fleetflash-mcus.cfg", check=True).stdout
    assert len(set(ports.splitlines())) == 2
    services = converged.double.run("systemctl is-active klipper-1 klipper-2", check=True).stdout
    assert services.split() == ["active", "active"]


def test_helper_that_two_klippys_share_is_whole_before_either_of_them_starts(converged: Site) -> None:
    host, services = converged.double, "klipper-1 klipper-2"
    built = "cat ~/printer_*_data/logs/klippy.log | grep -c 'Building C code'"
    host.run(f"sudo systemctl stop {services}; rm ~/klipper/klippy/chelper/c_helper.so", check=True)
    before = host.run(built, check=False).stdout
    run = converged.deploy(DOUBLE, f"{DOUBLE}b")
    assert run.code == 0 and run.line("klippy's C helper is not built: built"), run.output
    assert host.run(f"systemctl is-active {services}", check=True).stdout.split() == ["active", "active"]
    assert host.run(built, check=False).stdout == before


def test_the_second_run_changes_nothing_and_restarts_nothing(converged: Site) -> None:
    services = {converged.single: ("klipper", "moonraker"), converged.double: ("klipper-1", "klipper-2")}
    before = [started(host, *names) for host, names in services.items()]
    run = converged.deploy()
    assert run.code == 0 and changes(run) == "-", run.output
    assert [started(host, *names) for host, names in services.items()] == before


def test_a_changed_checkout_is_kept_and_reported_and_saved_before_it_is_discarded_when_idle(converged: Site) -> None:
    host = converged.single
    host.run("echo '# mine' >> ~/klipper/klippy/mcu.py; echo 'mine too' > ~/klipper/klippy/extras/mine.py", check=True)
    refused = converged.deploy(SINGLE, ref=NEXT)
    assert refused.code == 1
    assert refused.line("has changes of its own (klippy/mcu.py)", "klipper_discard_changes")
    assert "# mine" in host.run("tail -n 1 ~/klipper/klippy/mcu.py; git -C ~/klipper describe --tags").stdout

    begin_print(host)
    before = started(host, "klipper")
    deferred = converged.deploy(SINGLE, ref=NEXT, klipper_discard_changes=True)
    assert deferred.code == 4 and deferred.line("has to wait: klipper.service is printing")
    assert started(host, "klipper") == before and host.moonraker.print_state() == "printing"
    end_print(host)

    moved = converged.deploy(SINGLE, ref=NEXT, klipper_discard_changes=True)
    assert moved.code == 0, moved.output
    assert moved.line("its changes are in /home/pi/klipper-saved/")
    assert NEXT in host.run("git -C ~/klipper describe --tags --dirty", check=True).stdout
    saved = host.run("cat ~/klipper-saved/*.patch", check=True).stdout
    assert "+# mine" in saved and "+mine too" in saved
    assert started(host, "klipper") != before
    host.wait_klippy("ready", 60.0)


def test_a_broken_virtualenv_is_rebuilt_and_a_printer_cfg_of_somebody_is_left_to_them(converged: Site) -> None:
    host = converged.single
    old = host.run("readlink ~/klippy-env", check=True).stdout
    host.run("rm ~/klippy-env/lib/python3.11/site-packages/serial/serialutil.py", check=True)
    cfg = host.root / CFG[1:]
    cfg.write_text(OWN_CFG + SAVED)
    left = converged.deploy(SINGLE, ref=NEXT)
    assert left.line("~/klippy-env lacks serial/serialutil.py: built")
    assert left.line("lacks the line [include fleetflash-mcus.cfg]", "klipper_add_include")
    assert host.run("readlink ~/klippy-env", check=True).stdout != old
    assert cfg.read_text() == OWN_CFG + SAVED

    added = converged.deploy(SINGLE, ref=NEXT, klipper_add_include=True)
    assert added.code == 0, added.output
    assert cfg.read_text() == f"[include fleetflash-mcus.cfg]\n\n{OWN_CFG}{SAVED}"
    assert host.run(f"stat -c %U {CFG} {MCUS}", check=True).stdout.split() == ["pi", "pi"]
    host.wait_klippy("ready", 60.0)


@full_only
def test_a_host_fetches_its_source_itself_and_keeps_it_when_nobody_serves_it(converged: Site) -> None:
    host, kept = converged.single, converged.inventory[SINGLE]["klipper"]
    where = "git -C ~/klipper describe --tags"
    before = VERSION if host.run(where, check=True).stdout.strip() == VERSION else NEXT
    other = NEXT if before == VERSION else VERSION
    with converged.served() as url:
        converged.inventory[SINGLE]["klipper"] = {**kept, "repository": url, "fetch": "host"}
        moved = converged.deploy(SINGLE, ref=other)
        assert moved.code == 0, moved.output
        assert host.run(where, check=True).stdout.strip() == other
        host.wait_klippy("ready", 60.0)
        again = converged.deploy(SINGLE, ref=other)
        assert again.code == 0 and changes(again) == "-", again.output
    gone = converged.deploy(SINGLE, ref=before)
    assert gone.code == 1 and gone.line(url, "Connection refused"), gone.output
    assert host.run(where, check=True).stdout.strip() == other
    host.wait_klippy("ready", 60.0)
    converged.inventory[SINGLE]["klipper"] = kept


def test_recovery_removes_what_changes_have_left_that_died_and_nothing_else(converged: Site) -> None:
    host, halves = converged.single, "~/.klipper-new ~/.klippy-env-versions/half /var/tmp/fleetflash-upload-half"
    used = "readlink -f ~/klippy-env ~/moonraker-env"
    before = host.run(used, check=True).stdout
    host.run(f"mkdir ~/.klipper-new ~/.klippy-env-versions/half; touch {halves.split()[-1]}", check=True)
    inventory = converged.write_inventory(SINGLE)
    recovered = converged.pyinfra(inventory, deploy="deploys/recover.py")
    assert recovered.code == 0, recovered.output
    for kind, half in (("source tree", ".klipper-new"), ("virtualenv", "/half"), ("upload", "-half")):
        assert recovered.line(SINGLE, f"{kind} /", f"{half}: was not made to its end: removed")
    assert host.run(f"ls -d {halves}").stdout == "" and host.run(f"{used}; ls -d ~/klipper").stdout.startswith(before)
    again = converged.pyinfra(inventory, deploy="deploys/recover.py")
    assert again.code == 0 and changes(again) == "-", again.output


def test_a_host_with_an_esp_board_gets_esptool_in_a_virtualenv_of_root(converged: Site) -> None:
    entry = {key: value for key, value in converged.inventory[DOUBLE].items() if key.startswith("ssh_")}
    board = {"chip": "esp32", "programmer": "esptool", "port": "/dev/serial/by-path/none", "firmware_version": "v1"}
    gateway = {**entry, "boards": {"gateway": board}, "flash_tools": converged.source.esptool()}
    inventory = converged.directory / "esp.py"
    inventory.write_text(f"gateways = [({DOUBLE!r}, {gateway!r})]\n")
    first = converged.pyinfra(inventory, deploy="deploys/site.py")
    assert first.line("/var/lib/fleetflash/tools is not there: built")
    place = "/var/lib/fleetflash/tools"
    asked = f"cd / && sudo {place}/bin/python -m esptool version && stat -Lc '%U %a' {place}"
    assert "5.6" in (said := converged.double.run(asked, check=True).stdout) and said.endswith("root 755\n")
    second = converged.pyinfra(inventory, deploy="deploys/site.py")
    assert f"esptool is in the tool virtualenv \n    [{DOUBLE}] No changes\n" in second.output
