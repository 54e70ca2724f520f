"""What must not be flashed is refused in one clear line and left untouched, and everybody else goes on."""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab.host import Host
from tests.lab.fleet import FACTORY, WANTED, Fleet, Run, mcu_version

pytestmark = pytest.mark.lab

BY_ID = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"
FAILED, REFUSED, DEFERRED = 1, 3, 4


def untouched(host: Host) -> str:
    """What changes on a host when it is touched: Klipper's process, what fleetflash leaves, what boards have erased."""
    pid = host.run("systemctl show -P MainPID klipper; ls /var/lib/fleetflash /run/fleetflash 2>&1").stdout
    return f"{pid} {[board.control.status()['erases'] for board in host.boards]}"


@pytest.fixture(scope="module", autouse=True)
def factory(fleet: Fleet) -> None:
    fleet.reset(*fleet.lab.hosts)


@pytest.fixture(scope="module")
def five_problems(fleet: Fleet) -> Run:
    """One run over hosts with a problem each, and one with none."""
    no_sudo, by_id, button, offline, printing = [fleet.lab.host(f"printer-{number}") for number in range(1, 6)]
    offline.stop()
    printing.start_print()
    hosts = (no_sudo, by_id, button, printing)
    before = [untouched(host) for host in hosts]
    try:
        run = fleet.pyinfra(
            fleet.write_inventory(
                printer_1={"ssh_user": "nosudo"},
                printer_2=fleet.describe(by_id, bmcu_a={"port": BY_ID}, bmcu_b={"port": BY_ID}),
                printer_3=fleet.describe(button, bmcu={"entry": "button", "wiring": ""}),
            )
        )
        assert [untouched(host) for host in hosts] == before
        assert printing.moonraker.print_state() == "printing"
    finally:
        printing.stop_print()
        offline.start()
    return run


def test_everybody_else_goes_on_and_the_exit_code_says_refused(fleet: Fleet, five_problems: Run) -> None:
    assert five_problems.code == REFUSED
    assert five_problems.line("printer-6", "bmcu", "flashed")
    assert mcu_version(fleet.lab.host("printer-6")) == WANTED
    assert "Traceback" not in five_problems.output


def test_user_without_sudo(five_problems: Run) -> None:
    assert five_problems.line("printer-1/bmcu: refused:", "nosudo", "sudo", "sudoers.d")


def test_two_boards_with_one_by_id_name(five_problems: Run) -> None:
    assert five_problems.line("printer-2/bmcu-a: refused:", "ambiguous", "ttyUSB0", "ttyUSB1", "by-path")
    assert five_problems.line("printer-2/bmcu-b: refused:", "ambiguous", "ttyUSB0", "ttyUSB1", "by-path")


def test_board_whose_button_nobody_is_there_to_press(five_problems: Run) -> None:
    assert five_problems.line("printer-3/bmcu: waiting:", "attended=true")


def test_host_that_is_offline(five_problems: Run) -> None:
    assert five_problems.line("printer-4: offline")


def test_printer_that_prints_is_deferred(five_problems: Run) -> None:
    assert five_problems.line("printer-5/bmcu-a: deferred:", "printing", "idle")


def test_only_deferred_hosts_have_an_exit_code_of_their_own(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-1")
    button = fleet.describe(host, bmcu={"entry": "button", "wiring": ""})
    assert fleet.pyinfra(fleet.write_inventory("printer-1", printer_1=button)).code == DEFERRED


def test_board_with_another_chip_than_the_inventory_names(fleet: Fleet) -> None:
    """Only its bootloader can tell: Klipper is stopped for it, but nothing is erased."""
    host = fleet.lab.host("printer-1")
    add = ["artifact", "add", "--name", "klipper-bmcu-c", "--chip", "ch32v203c8u6"]
    assert fleet.fleetflash(*add, str(fleet.lab.image(WANTED))).code == 0
    assert fleet.fleetflash(*add, "--label", "factory", str(fleet.lab.image(FACTORY))).code == 0
    changes = {"printer_1": fleet.describe(host, bmcu={"chip": "ch32v203c8u6"})}
    run = fleet.pyinfra(fleet.write_inventory(host.name, **changes))
    assert run.code == FAILED
    assert run.line("printer-1/bmcu: failed:", "found chip 19:31", "expected 19:30", "nothing was erased")
    assert host.board("bmcu").control.status()["erases"] == 0
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == FACTORY


#: (what the inventory says otherwise, words of the one line that must say so)
MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"bmcu": {"chip": "atmega2560"}}, ["refused", "atmega2560"]),
    ({"bmcu": {"chip": "ch32v20x"}}, ["refused", "unknown chip"]),
    ({"bmcu": {"firmware_version": "v9.9.9"}}, ["refused", "v9.9.9", FACTORY, WANTED, "artifact add"]),
    ({"bmcu": {"firmware_version": 0.12}}, ["refused", "0.12"]),
    ({"bmcu": {"port": 7}}, ["refused", "port", "7"]),
    ({"bmcu": {"prot": "/dev/ttyUSB0"}}, ["refused", "prot"]),
    ({"bmcu": {"port": "/dev/ttyUSB7"}}, ["refused", "/dev/ttyUSB7", "is not there", "by-path"]),
]


@pytest.mark.parametrize(("boards", "words"), MISTAKES)
def test_mistake_in_the_inventory_is_one_line_in_the_plan(fleet: Fleet, boards: Any, words: list[str]) -> None:
    host = fleet.lab.host("printer-1")
    run = fleet.plan(fleet.write_inventory("printer-1", printer_1=fleet.describe(host, **boards)))
    assert run.code == REFUSED
    assert run.line("printer-1/bmcu: ", *words)
    assert "Traceback" not in run.output


def test_port_that_another_process_holds_is_refused_with_its_name(fleet: Fleet) -> None:
    """Only root sees a process of root: the plan can't, the transaction does before it stops anything."""
    host = fleet.lab.host("printer-1")
    hold = f"import time; port = open({host.port('bmcu')!r}, 'rb+', 0); time.sleep(60)"
    host.run(f'sudo systemd-run --quiet --unit=holder python3 -c "{hold}"; sleep 1', check=True)
    pid = host.run("systemctl show -P MainPID klipper", check=True).stdout
    run = fleet.pyinfra(fleet.write_inventory("printer-1"))
    host.run("sudo systemctl stop holder", check=True)
    assert run.code == REFUSED
    assert run.line("printer-1/bmcu: refused:", "is held by process", "python3", "end it")
    assert host.run("systemctl show -P MainPID klipper", check=True).stdout == pid
    assert host.board("bmcu").control.status()["erases"] == 0


def test_board_without_a_way_back(fleet: Fleet, tmp_path: Path) -> None:
    """The image that it runs is not registered, nor a factory image of its firmware's name."""
    store = str(tmp_path / "store")
    add = ["artifact", "add", str(fleet.lab.image(WANTED)), "--chip", "ch32v203c8t6", "--name", "klipper-bmcu-c"]
    assert fleet.fleetflash(*add, "--store", store).code == 0
    before = untouched(fleet.lab.host("printer-1"))
    run = fleet.pyinfra(fleet.write_inventory("printer-1"), store=store)
    assert run.code == REFUSED
    assert run.line("printer-1/bmcu: refused:", "no way back", "--label factory", "accept_no_way_back")
    assert untouched(fleet.lab.host("printer-1")) == before
