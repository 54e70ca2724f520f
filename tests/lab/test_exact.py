"""Policy exact with a pinned Klipper: host code, its C helper and all boards are of one version, whatever happens.

klippy runs from a git checkout; the wanted commit is only in the controller's repository, and its helper must be built.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleetflash.lab.host import Host
from tests.lab.conftest import full_only
from tests.lab.fleet import FACTORY, WANTED, Fleet, journal, mcu_version, outcome, strike, wait_outcome, wait_settled
from tests.lab.klipper_source import (
    CHECKOUT,
    V1,
    V2,
    Source,
    back_to_v1,
    install,
    make_source,
    problem_of_code,
)

pytestmark = pytest.mark.lab

PRINTERS = ("printer-2", "printer-5")
#: Checks the commit out, says so, and never comes back.
STUCK_GIT = """\
#!/bin/sh
/usr/bin/git "$@" || exit
case "$*" in *--no-overwrite-ignore*) touch /tmp/checked-out; sleep 600;; esac
"""


@pytest.fixture(scope="module")
def source(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(Path(fleet.lab.hosts[0].lab.base), tmp_path_factory.mktemp("klipper"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETFLASH_BUILD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def old(fleet: Fleet, source: Source) -> None:
    """Both printers run v1 and the factory's firmware."""

    def reset(name: str) -> None:
        host = fleet.lab.host(name)
        if host.phase == "off":
            host.start()
        if install(source, host) or problem(host, V1, FACTORY):
            back_to_v1(host)
            fleet.reset(host)

    with ThreadPoolExecutor(len(PRINTERS)) as pool:
        list(pool.map(reset, PRINTERS))


def exact(fleet: Fleet, source: Source, *names: str) -> Path:
    data = {"policy": "exact", "klipper_version": V2, "klipper_repository": str(source.repository)}
    return fleet.write_inventory(*names, **{name.replace("-", "_"): data for name in names})


def problem(host: Host, code: str, firmware: str) -> str:
    """Say what is wrong with a printer that must run these versions, all of them."""
    host.wait_klippy("ready", 90.0)
    versions = [mcu_version(host, board.spec.mcu) for board in host.boards]
    if versions != [firmware] * len(host.boards):
        return f"boards run {versions}"
    left = host.run("ls /run/fleetflash/busy /etc/systemd/system/*fleetflash* /run/systemd/system/*.d/*fleet*").stdout
    return problem_of_code(host, code) or (f"left behind: {left}" if left else "")


def test_code_and_boards_move_together_and_a_second_run_changes_nothing(fleet: Fleet, source: Source) -> None:
    hosts = [fleet.lab.host(name) for name in PRINTERS]
    inventory = exact(fleet, source, *PRINTERS)
    run = fleet.pyinfra(inventory)
    assert run.code == 0, run.output
    assert run.line("printer-2", "host code", "v2-0-g", "flashed")
    assert "4 boards: 4 flashed · host code: 2 flashed · Klipper down" in run.output
    assert [problem(host, V2, WANTED) for host in hosts] == ["", ""]
    steps = [entry["step"] for entry in journal(hosts[0])]
    assert steps.count("stopping") == 1 and steps.index("prepared") < steps.index("stopping")
    pids = [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in hosts]
    again = fleet.pyinfra(inventory)
    assert again.code == 0
    assert "4 boards: 4 already current · host code: 2 already current" in again.output
    assert pids == [host.run("systemctl show -P MainPID klipper", check=True).stdout for host in hosts]


@full_only
def test_host_code_is_rolled_back_with_its_boards_and_held_with_them(fleet: Fleet, source: Source) -> None:
    hosts = [fleet.lab.host(name) for name in PRINTERS]
    inventory = exact(fleet, source, *PRINTERS)
    assert fleet.pyinfra(inventory).code == 0
    back = fleet.pyinfra(inventory, "to=previous", deploy="deploys/rollback.py")
    assert back.code == 0 and back.line("4 boards: 4 flashed · host code: 2 flashed"), back.output
    assert [problem(host, V1, FACTORY) for host in hosts] == ["", ""]
    again = fleet.pyinfra(inventory, "to=previous", deploy="deploys/rollback.py")
    assert again.code == 0 and again.line("4 boards: 4 already current · host code: 2 already current")
    forward = fleet.pyinfra(inventory)
    assert forward.code == 4 and forward.line("4 boards: 4 held · host code: 2 held")
    assert forward.line("printer-2/host code: held:", "fleetflash hold clear INVENTORY printer-2 'host code'")


def test_failing_board_takes_all_back_and_uncommitted_changes_keep_all_from_moving(
    fleet: Fleet, source: Source
) -> None:
    """Two printers of one run, each with its own trouble."""
    failing, changed = (fleet.lab.host(name) for name in PRINTERS)
    failing.board("bmcu-b").control.ask("fault", kind="wrong_status", command="program", byte=15000, count=1)
    changed.run(f"echo '# mine' >>{CHECKOUT}/klippy/mcu.py", check=True)
    pid = changed.run("systemctl show -P MainPID klipper", check=True).stdout
    run = fleet.pyinfra(exact(fleet, source, *PRINTERS))
    assert run.code == 1
    assert run.line("printer-2", "host code", "v1-0-g", "restored")
    assert problem(failing, V1, FACTORY) == ""
    assert run.line("printer-5/host code: refused:", "uncommitted changes (klippy/mcu.py)")
    assert run.line("printer-5/bmcu-a: refused:", "policy exact: the host code can't be moved")
    assert changed.run(f"tail -n 1 {CHECKOUT}/klippy/mcu.py").stdout == "# mine\n"
    assert changed.run("systemctl show -P MainPID klipper", check=True).stdout == pid
    assert [mcu_version(changed, board.spec.mcu) for board in changed.boards] == [FACTORY, FACTORY]


def died(fleet: Fleet, source: Source, name: str, death: Callable[[Host], None]) -> str:
    """Run until ``death`` has come over the host, settle, and say what is wrong; a next run must bring all forward."""
    host = fleet.lab.host(name)
    run = fleet.start_pyinfra(exact(fleet, source, name))
    death(host)
    run.kill()
    run.wait()
    if host.phase == "off":
        host.start()
        wait_outcome(host)
    wait_settled(host)
    if outcome(host)["outcome"] != "restored":
        return f"{name}: outcome {outcome(host)}"
    return problem(host, V1, FACTORY)


def both_died(fleet: Fleet, source: Source, *deaths: Callable[[Host], None]) -> list[str]:
    """One death for each printer, side by side."""
    with ThreadPoolExecutor(len(PRINTERS)) as pool:
        return list(pool.map(lambda name, death: died(fleet, source, name, death), PRINTERS, deaths))


def kill_agent(host: Host) -> None:
    host.run("sudo systemctl kill -s KILL fleetflash.service", check=True)


def test_all_is_old_when_the_agent_dies_in_the_checkout_or_the_power_before_the_first_board(
    fleet: Fleet, source: Source
) -> None:
    def agent(host: Host) -> None:
        host.run("for n in $(seq 300); do test -e /tmp/checked-out && exit; sleep 0.1; done; exit 1", check=True)
        kill_agent(host)
        host.run("sudo rm /usr/local/bin/git", check=True)

    def power(host: Host) -> None:
        strike(host, "bmcu-a", "identify", 0, lambda: host.crash(keep_boards=True))

    put_git = "rm -f /tmp/checked-out; sudo tee /usr/local/bin/git && sudo chmod 755 /usr/local/bin/git"
    fleet.lab.host(PRINTERS[0]).run(put_git, stdin=STUCK_GIT, check=True)
    assert both_died(fleet, source, agent, power) == ["", ""]


@full_only
def test_all_is_old_when_power_or_agent_go_in_the_middle_of_the_second_board(fleet: Fleet, source: Source) -> None:
    def power(host: Host) -> None:
        strike(host, "bmcu-b", "program", 15000, lambda: host.crash(keep_boards=True))

    def agent(host: Host) -> None:
        strike(host, "bmcu-b", "program", 15000, lambda: kill_agent(host))

    assert both_died(fleet, source, power, agent) == ["", ""]
