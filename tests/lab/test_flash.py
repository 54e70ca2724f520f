"""The main job: a fleet is brought to its pinned firmware, and a second run changes nothing."""

import threading

import pytest

from fleetflash.cli.demo import HANDS
from tests.lab.conftest import full_only
from tests.lab.fleet import FACTORY, WANTED, Fleet, flash_holds, mcu_version

pytestmark = pytest.mark.lab

STATE = (
    "sudo find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/var/log/*' -not -path '/run/log/*' "
    "-not -path '/run/systemd/*' -not -path '/run/sudo/*' -not -path '/run/user/*' -not -path '*/printer_data/logs/*' "
    "-not -path '/run/udev/*' -not -path '/run/utmp' -not -path '/dev/*' -not -path '/tmp' -not -path '/run' "
    r"-printf '%p %T@ %s %m %u\n' 2>/dev/null | sort; "
    "sudo find /run/fleetflash /run/systemd/system -printf '%p %T@ %s\\n' 2>&1"
)


def flash(fleet: Fleet, *data: str, deploy: str = "deploys/flash.py") -> "tuple[int, str]":
    """Run the stock command with an operator at hand, who presses the button that the run asks for."""
    process = fleet.start_pyinfra(demo_inventory(fleet), "attended=true", *data, deploy=deploy)  # type: ignore[arg-type]
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if asked := HANDS.search(line):
            control = fleet.lab.host(asked["host"]).board(asked["board"]).control
            threading.Timer(0.5, control.press).start()
    return process.wait(), output


def demo_inventory(fleet: Fleet) -> object:
    """The demonstration's peculiarities: a button, the controller as the place to flash from, a policy."""
    return fleet.write_inventory(
        printer_3=fleet.describe(fleet.lab.host("printer-3"), bmcu={"entry": "button", "wiring": ""}),
        printer_4=fleet.describe(fleet.lab.host("printer-4"), bmcu={"placement": "controller"}),
        printer_5={"policy": "exact"},
    )


@pytest.fixture(scope="module", autouse=True)
def flashed(fleet: Fleet) -> str:
    """The fleet, freshly flashed; returns what the run printed."""
    fleet.reset(*fleet.lab.hosts)
    code, output = flash(fleet)
    assert code == 0, output
    return output


def test_every_board_holds_and_runs_exactly_the_artifact(fleet: Fleet) -> None:
    image = fleet.lab.image(WANTED).read_bytes()
    for host in fleet.lab.hosts:
        host.wait_klippy("ready", 10.0)
        for board in host.boards:
            assert flash_holds(host, board.spec.name, image), f"{host.name}/{board.spec.name}"
            assert mcu_version(host, board.spec.mcu) == WANTED


def test_the_run_closes_with_a_table_of_outcomes(flashed: str) -> None:
    assert "10 boards: 10 flashed · Klipper down" in flashed


def test_second_run_changes_nothing_and_costs_one_exec_per_host(fleet: Fleet) -> None:
    count = "sudo journalctl -q -t sshd -o cat | grep -c 'Starting session: command'"
    for host in fleet.lab.hosts:
        host.run(
            "echo 'LogLevel VERBOSE' | sudo tee /etc/ssh/sshd_config.d/verbose.conf; sudo systemctl reload ssh",
            check=True,
        )
    pids = [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in fleet.lab.hosts]
    before = [int(host.run(count).stdout) for host in fleet.lab.hosts]
    run = fleet.pyinfra(demo_inventory(fleet))  # type: ignore[arg-type]
    after = [int(host.run(count).stdout) for host in fleet.lab.hosts]
    assert run.code == 0
    assert "10 boards: 10 already current" in run.output
    # Of the difference, one is the counting itself.
    assert [b - a - 1 for a, b in zip(before, after, strict=True)] == [1] * len(before)
    assert pids == [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in fleet.lab.hosts]


def test_plan_and_dry_run_and_status_touch_no_file_on_any_host(fleet: Fleet) -> None:
    inventory = demo_inventory(fleet)
    pin = f'firmware_version="{FACTORY}"'
    before = [host.run(STATE, check=True).stdout for host in fleet.lab.hosts]
    plan = fleet.plan(inventory, pin, "attended=true")  # type: ignore[arg-type]
    dry = fleet.pyinfra(inventory, pin, "attended=true", yes=False)  # type: ignore[arg-type]
    status = fleet.pyinfra(inventory, pin, deploy="deploys/status.py")  # type: ignore[arg-type]
    after = [host.run(STATE, check=True).stdout for host in fleet.lab.hosts]
    for run in (plan, dry):
        assert "10 boards: 10 to flash" in run.output
        assert run.line("printer-1", "bmcu", WANTED, FACTORY, "flash")
    assert plan.code == 2
    assert dry.code == 0
    assert status.code == 0 and status.line("printer-3", "bmcu", WANTED, FACTORY)
    for host, old, new in zip(fleet.lab.hosts, before, after, strict=True):
        assert sorted(set(old.splitlines()) ^ set(new.splitlines())) == [], host.name


@full_only
def test_fleet_that_is_rolled_back_stays_there_until_it_is_let_go(fleet: Fleet) -> None:
    pin, back = f'firmware_version="{FACTORY}"', "deploys/rollback.py"
    code, output = flash(fleet, pin, deploy=back)
    assert code == 0 and "10 boards: 10 flashed" in output, output
    image = fleet.lab.image(FACTORY).read_bytes()
    assert all(flash_holds(host, board.spec.name, image) for host in fleet.lab.hosts for board in host.boards)
    pids = [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in fleet.lab.hosts]
    again = fleet.pyinfra(demo_inventory(fleet), pin, deploy=back)  # type: ignore[arg-type]
    assert again.code == 0 and "10 boards: 10 already current" in again.output
    inventory = demo_inventory(fleet)
    cleared = fleet.fleetflash("hold", "clear", str(inventory), "printer-1")
    assert cleared.code == 0 and cleared.line("printer-1/bmcu: let go, was held at", FACTORY)
    forward = fleet.plan(inventory)  # type: ignore[arg-type]
    assert forward.code == 4 and "10 boards: 1 to flash, 9 held" in forward.output
    assert forward.line("printer-2/bmcu-a: held:", "fleetflash hold clear INVENTORY printer-2 bmcu-a")
    assert pids == [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in fleet.lab.hosts]
