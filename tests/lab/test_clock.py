"""A host's wall clock jumps; everything that counts seconds goes on."""

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from fleetflash.cli import main
from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import HostSpec
from tests.lab.conftest import full_only
from tests.lab.fleet import WANTED, Fleet, mcu_version, outcome, strike, wait_outcome

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-container"),
]

DAY = 86400
# Every way in which a program asks for the time of day; seconds against the machine's at the time of the call.
ASK = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.time.restype = ctypes.c_long
both = (ctypes.c_long * 2)()
libc.gettimeofday(both, None)
print(time.time(), time.clock_gettime(0), time.clock_gettime(5), libc.time(None), both[0] + both[1] / 1e6)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up("test-clock", (HostSpec("printer-1"), HostSpec("printer-2")), "10.79.9") as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    host = lab.host("printer-1")
    yield host
    if host.phase != "off":
        host.crash()
    host.start()


def ahead(host: Host) -> set[int]:
    """How many minutes a host's clock is ahead, by all that say so."""
    clocks = host.run("python3 -", stdin=ASK, check=True).stdout.split()
    date = host.run("date +%s; sudo date +%s", check=True).stdout.split()
    return {round((float(clock) - time.time()) / 60) for clock in [*clocks, *date]}


@pytest.mark.parametrize("seconds", [DAY, -DAY, 3600.0])
def test_programs_see_the_clock_jump_on_that_host_alone(lab: Lab, host: Host, seconds: float) -> None:
    host.jump_clock(seconds)
    assert ahead(host) == {round(seconds / 60)}
    host.jump_clock(60)
    assert ahead(host) == {round(seconds / 60) + 1}
    assert ahead(lab.host("printer-2")) == {0}


def test_the_command_line_moves_it_back_too(lab: Lab, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "clock", "--name", lab.name, host.name, "-7200"]) == 0
    assert ahead(host) == {-120}
    assert main(["lab", "clock", "--name", lab.name, host.name, "noon"]) == 1
    assert capsys.readouterr().err == "lab: printer-1: 'noon' is no number of seconds, such as -3600\n"
    assert main(["lab", "clock", "--name", lab.name, host.name, "nan"]) == 1
    assert "nan is no jump of a clock" in capsys.readouterr().err


def test_a_program_that_runs_sees_the_jump_and_its_own_seconds_go_on(host: Host) -> None:
    program = """
import time
wall, steady = time.time(), time.monotonic()
print("ready", flush=True)
while abs(time.time() - wall - (time.monotonic() - steady)) < 1000:
    time.sleep(0.01)
print(round((time.time() - wall) / 600), time.monotonic() - steady < 60)
"""
    host.run("cat > jump.py", stdin=program, check=True)
    host.run("nohup python3 -u jump.py >jump.log 2>&1 </dev/null &", check=True)
    wait(host, "grep -q ready jump.log")
    host.jump_clock(-600 * 7 - 0.25)
    wait(host, "grep -q True jump.log")
    assert host.run("tail -n 1 jump.log", check=True).stdout == "-7 True\n"


def test_fractions_of_a_second_stay_fractions(host: Host) -> None:
    host.jump_clock(-0.75)
    program = "import time\nseen = [time.clock_gettime_ns(0) - time.clock_gettime_ns(0) for _ in range(10**5)]\n"
    program += "now = (__import__('ctypes').c_long * 2)()\n"
    program += "ask = __import__('ctypes').CDLL(None).clock_gettime\n"
    program += "parts = [ask(0, now) or now[1] for _ in range(10**5)]\n"
    program += "print(max(seen) <= 0, 0 <= min(parts), max(parts) < 10**9)\n"
    assert host.run("python3 -", stdin=program, check=True).stdout == "True True True\n"


def test_a_reboot_keeps_the_clock_and_a_power_on_sets_it_right(host: Host) -> None:
    host.jump_clock(DAY)
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = host.run(boot, check=True).stdout
    host.run("sudo systemctl reboot")
    wait(host, f"test $({boot}) != {before}")
    assert ahead(host) == {DAY // 60}
    host.crash()
    with pytest.raises(LabError, match="printer-1 is off"):
        host.jump_clock(60)
    host.start()
    assert ahead(host) == {0}


@full_only
def test_a_printer_whose_clock_starts_in_the_past_settles_and_flashes(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-6")
    fleet.reset(host)
    host.jump_clock(7 * DAY)  # which a power cut takes back
    inventory = fleet.write_inventory(host.name)
    run = fleet.start_pyinfra(inventory)
    strike(host, "bmcu", "program", 15000, lambda: host.crash(keep_boards=True))
    run.kill()
    run.wait()
    host.start()
    wait_outcome(host)
    host.wait_klippy("ready", 90.0)
    settled = outcome(host)
    assert settled["outcome"] == "restored" and 0 < settled["downtime"] < 60
    following = fleet.pyinfra(inventory)
    assert following.code == 0, following.output
    assert outcome(host)["outcome"] == "committed" and mcu_version(host) == WANTED


def wait(host: Host, condition: str) -> None:
    deadline = time.monotonic() + 30
    while host.run(condition).returncode:
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)
