"""A board that no way back reaches is latched for a person; its printer runs, and nobody writes to it meanwhile.

What is kept of such a failure says what happened and what to do, and holds none of the secrets around it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.fleet import NEXT, WANTED, Fleet, Run, mcu_version, outcome

pytestmark = pytest.mark.lab

#: Secrets of a site: in the inventory, in its group data and in the printer's own configuration.
CANARY = "c4n4ry"
DATA = {
    "ssh_password": f"{CANARY}-ssh",
    "mqtt": {"password": f"{CANARY}-mqtt"},
    "moonraker_api_key": f"{CANARY}-key",
    "secrets": {"anything": f"{CANARY}-any"},
    "secret_keys": ["site_code"],
    "site_code": f"{CANARY}-site",
    "klipper_repository": f"https://me:{CANARY}-url@git.invalid/klipper.git",
    "reason": f"trying v2, token={CANARY}-why",
}
GROUP_DATA = f'wifi = {{"ssid": "shop", "psk": "{CANARY}-psk"}}\nota_token = "{CANARY}-ota"\n'
LOGGED = f"joined with {CANARY}-psk, door {CANARY}-site, {CANARY}-any\n"
LOGGED += f"[mqtt]\npassword: {CANARY}-mqtt\nfetching https://me:{CANARY}-log@git.invalid/x\napi_key = {CANARY}-conf\n"
#: Tells what runs on a host, again and again, while a file is there.
WATCH = "touch /tmp/watch; while [ -e /tmp/watch ]; do ps -eo args >> /tmp/watched; sleep 0.1; done"


@pytest.fixture(scope="module")
def site(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory of printer-6 that is full of secrets; a board of it is described badly, with one in the mistake."""
    directory = tmp_path_factory.mktemp("site")
    host = fleet.lab.host("printer-6")
    data = {**fleet.describe(host), **DATA}
    data["boards"]["gate"] = {"port": "/dev/ttyUSB9", "options": {"door": f"{CANARY}-site"}}
    inventory = directory / "inventory.py"
    shutil.copy(fleet.write_inventory(host.name, printer_6=data), inventory)
    (directory / "group_data").mkdir()
    (directory / "group_data/klipper_hosts.py").write_text(GROUP_DATA)
    return inventory


@pytest.fixture(scope="module")
def failure(fleet: Fleet, site: Path) -> tuple[Run, str]:
    """A run whose board resists its way back, and all command lines that were seen on its host meanwhile."""
    host = fleet.lab.host("printer-6")
    fleet.reset(host)
    shutil.rmtree(fleet.directory / "incidents", ignore_errors=True)
    host.run("sudo rm -f /tmp/watched", check=True)
    host.run(
        f"printf %s '{LOGGED}' | tee -a printer_data/logs/klippy.log >> printer_data/logs/moonraker.log", check=True
    )
    host.run(f"(sh -c '{WATCH}' >/dev/null 2>&1 &)", check=True)
    host.board("bmcu").control.ask("fault", kind="wrong_status", command="program", byte=15000, count=1000)
    run = fleet.pyinfra(site)
    host.run("rm /tmp/watch", check=True)
    return run, host.run("cat /tmp/watched", check=True).stdout


def incident(fleet: Fleet) -> Path:
    """Return the directory of the one bundle of a transaction."""
    (found,) = [path.parent for path in (fleet.directory / "incidents").glob("*-printer-6/events.jsonl")]
    return found


def test_board_that_resists_its_way_back_is_latched_until_cleared(
    fleet: Fleet, site: Path, failure: tuple[Run, str]
) -> None:
    host = fleet.lab.host("printer-6")
    run, _ = failure
    assert run.code == 1
    assert run.line("printer-6/bmcu: needs-attention:", "program", "0x3a", "status fe")
    assert run.line("printer-6/gate: refused:", "knows no option 'door'", "[redacted]")
    assert outcome(host)["outcome"] == "needs-attention"
    assert host.run("systemctl is-active klipper").stdout.strip() == "active"

    inventory = fleet.write_inventory(host.name)
    latched = fleet.pyinfra(inventory)
    assert latched.code == 3
    assert latched.line("printer-6/bmcu: refused: needs attention", "fleetflash board clear INVENTORY printer-6 bmcu")
    status = fleet.pyinfra(inventory, deploy="deploys/status.py")
    assert status.line("printer-6/bmcu", "needs attention")

    host.board("bmcu").control.ask("clear_faults")
    cleared = fleet.fleetflash("board", "clear", str(inventory), "printer-6", "bmcu")
    assert cleared.code == 0 and cleared.line("printer-6/bmcu: cleared:", "status fe")
    again = fleet.pyinfra(inventory)
    assert again.code == 0 and again.line("printer-6", "bmcu", "flashed")
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == WANTED


def test_failure_is_diagnosed_at_the_end_of_the_run_and_its_evidence_is_kept(
    fleet: Fleet, failure: tuple[Run, str]
) -> None:
    run, _ = failure
    assert run.line("printer-6/bmcu failed while it was written", "refused", "needs a person")
    assert run.line("Next: Cycle the power of bmcu")
    directory = incident(fleet)
    assert run.line("Evidence:", str(directory), "fleetflash incident show")
    steps = [json.loads(line)["step"] for line in (directory / "journal.jsonl").read_text().splitlines()]
    assert steps[0] == "begin" and {"writing", "failed", "restore-failed", "end"} <= set(steps)
    kept = json.loads((directory / "incident.json").read_text())
    assert kept["cause"] == "refused" and kept["boards"]["bmcu"]["result"] == "needs-attention"
    assert kept["versions"]["klippy"] and kept["versions"]["moonraker"] and "Debian" in kept["environment"]["os"]
    for log in ("klippy", "moonraker", "agent", "kernel", "klipper-unit"):
        assert f"logs/{log}.log" in kept["files"]
    assert "git.invalid" in (directory / "logs/moonraker.log").read_text()
    assert "bytes 57aba5" in (directory / "logs/serial-ttyUSB0.log").read_text()  # WCH ISP: program
    shown = fleet.fleetflash("incident", "show", kept["id"], "--incidents", str(directory.parent))
    assert shown.code == 0 and shown.line("what", "bmcu: v0.11.0 → v0.12.0") and shown.line("who", "@")


def test_record_tells_of_the_failure_and_of_the_success_after_it(fleet: Fleet, failure: tuple[Run, str]) -> None:
    place = str(fleet.directory / "incidents")
    listed = fleet.fleetflash("incident", "record", "--host", "printer-6", "--incidents", place, "--json")
    entries = json.loads(listed.output)
    assert entries[0]["outcome"] == "needs-attention" and entries[0]["incident"] == incident(fleet).name
    assert entries[-1]["outcome"] in ("committed", "needs-attention")


def test_evidence_is_collected_on_demand(fleet: Fleet, site: Path, failure: tuple[Run, str]) -> None:
    run = fleet.pyinfra(site, deploy="deploys/collect.py")
    assert run.code == 0 and CANARY not in run.output
    listed = fleet.fleetflash("incident", "list", "--incidents", str(fleet.directory / "incidents"))
    assert listed.line("printer-6", "collected") and listed.line("printer-6", "needs-attention", "refused")


def test_no_secret_is_in_logs_journals_bundles_the_store_or_on_a_command_line(
    fleet: Fleet, failure: tuple[Run, str]
) -> None:
    run, command_lines = failure
    host = fleet.lab.host("printer-6")
    assert "[redacted]" in run.output and CANARY not in run.output
    assert "fleetflash" in command_lines and CANARY not in command_lines
    places = "/var/lib/fleetflash /run/fleetflash"
    # What sudo writes down of this very look must not name it.
    look = (
        f"grep -rl {CANARY} {places}; journalctl --no-pager | grep {CANARY}; journalctl --no-pager | grep -c COMMAND="
    )
    found = host.run("sudo sh -s", stdin=look)
    assert found.stdout.strip().isdigit() and int(found.stdout) > 0, found.stdout
    kept = [fleet.directory / name for name in ("incidents", "store")]
    assert all(path.is_dir() for path in kept)
    holding = subprocess.run(["grep", "-rl", CANARY, *map(os.fspath, kept)], capture_output=True, text=True)
    assert holding.stdout == "" and holding.returncode == 1


def test_verification_is_silent_when_all_is_well_and_names_every_drift(fleet: Fleet, failure: tuple[Run, str]) -> None:
    """After the board was cleared and flashed: no sudo, and nothing is changed."""
    inventory = fleet.write_inventory("printer-6")
    well = fleet.pyinfra(inventory, deploy="deploys/verify.py")
    assert well.code == 0 and well.line("printer-6", "moonraker", "ready", "ok") and well.line("8 checks: 8 ok")
    drifted = fleet.fleetflash("verify", str(inventory), "--json", "--data", f"firmware_version={NEXT}")
    checks = {check["name"]: check for check in json.loads(drifted.output)["checks"]}
    assert drifted.code == 2
    assert (checks["version"]["expected"], checks["version"]["found"]) == (NEXT, WANTED)
    assert checks["dry run"]["found"] == "would be flashed" and checks["klippy"]["result"] == "ok"
