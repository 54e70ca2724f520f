"""The simulated lab's hosts: they boot, they are like printers, and nothing of them stays."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab import cgroup, rootfs
from fleetflash.lab.bench import default_hosts
from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, down, leftovers
from fleetflash.lab.layout import Layout
from fleetflash.lab.spec import BoardSpec, HostSpec

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-container"),
]

# A stand-in for a board: a pseudo-terminal, and modem lines that remember what was set and log it.
FAKE_BOARD = """
import argparse, os, pathlib, signal, socket, struct, sys
parser = argparse.ArgumentParser()
for name in ("pty", "flash", "serial-lines", "control", "log", "uid", "entry"):
    parser.add_argument("--" + name)
arguments = parser.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
master, slave = os.openpty()
lines = socket.socket(socket.AF_UNIX)
lines.bind(arguments.serial_lines)
lines.listen()
pathlib.Path(arguments.control).touch()
pathlib.Path(arguments.pty).symlink_to(os.ttyname(slave))
bits = 0
while True:
    connection, _ = lines.accept()
    request, argument = struct.unpack("<II", connection.recv(8, socket.MSG_WAITALL))
    bits = {0x5416: bits | argument, 0x5417: bits & ~argument, 0x5418: argument}.get(request, bits)
    with open(arguments.log, "a") as log:
        log.write(f"{request:x} {argument:x}\\n")
    connection.sendall(struct.pack("<I", bits))
    connection.close()
"""


def fake(name: str, mcu: str = "mcu") -> BoardSpec:
    return BoardSpec(name=name, mcu=mcu, command=(sys.executable, "-c", FAKE_BOARD))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    hosts = (
        HostSpec("printer-1", (fake("left"), fake("right", "right"))),
        HostSpec("printer-2", delay_ms=60.0),
    )
    with Lab.up("test-hosts", hosts, "10.79.0") as lab:
        yield lab
    assert leftovers(lab.layout) == []


@pytest.fixture
def host(lab: Lab) -> Host:
    host = lab.host("printer-1")
    if host.phase == "off":
        host.start()
    for board in host.boards:
        host.plug(board.spec.name)
    return host


def python(host: Host, program: str, user: str = "pi") -> str:
    return host.run("python3 -", stdin=program, user=user, check=True).stdout.strip()


def eventually(condition: str, host: Host, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while host.run(condition).returncode:
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def test_hosts_are_printers_with_systemd_sudo_and_klipper(host: Host) -> None:
    assert host.run("sudo -n id -un; hostname", check=True).stdout.split() == ["root", "printer-1"]
    assert host.run("sudo -n true", user="nosudo").returncode != 0
    shown = host.run("systemctl show -P User -P Restart -P UnitFileState klipper", check=True).stdout.split()
    assert sorted(shown) == ["always", "enabled", "pi"]
    eventually("systemctl is-active -q klipper moonraker && test -S printer_data/comms/klippy.sock", host)


def test_hosts_differ_where_real_hosts_do(lab: Lab, host: Host) -> None:
    other = lab.host("printer-2")
    for command in ("cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub", "hostname"):
        assert host.run(command, check=True).stdout != other.run(command, check=True).stdout


def test_a_delayed_link_costs_its_round_trip(lab: Lab) -> None:
    started = time.monotonic()
    socket.create_connection((lab.host("printer-2").address, 22), timeout=5).close()
    assert 0.06 <= time.monotonic() - started < 10


def test_a_cut_link_loses_everything_until_it_is_restored(lab: Lab) -> None:
    host = lab.host("printer-2")
    host.link.cut()
    with pytest.raises(TimeoutError):
        socket.create_connection((host.address, 22), timeout=0.7)
    host.link.restore()
    host.wait_ssh(10)


def test_ports_have_the_names_and_mode_that_udev_gives(host: Host) -> None:
    listing = host.run("stat -c '%n %U:%G %a' /dev/ttyUSB*; cd /dev/serial; readlink -f by-path/* by-id/*", check=True)
    assert listing.stdout.split("\n")[:-1] == [
        "/dev/ttyUSB0 root:dialout 660",
        "/dev/ttyUSB1 root:dialout 660",
        "/dev/ttyUSB0",
        "/dev/ttyUSB1",
        "/dev/ttyUSB1",  # one name for both boards: the later one has it
    ]


def test_modem_lines_reach_the_board(host: Host) -> None:
    host.run("sudo systemctl stop klipper", check=True)  # it would try the port, too
    log = host.board("right").log
    before = log.read_text() if log.exists() else ""
    shown = python(
        host,
        "import serial\n"
        "port = serial.Serial()\n"
        "port.port = '/dev/ttyUSB1'\n"
        "port.dtr = port.rts = False\n"
        "port.open()\n"
        "import fcntl, struct\n"
        "get = lambda: struct.unpack('I', fcntl.ioctl(port.fd, 0x5415, bytes(4)))[0]\n"
        "seen = [get()]\n"
        "port.dtr = True; seen.append(get())\n"
        "port.rts = True; seen.append(get())\n"
        "port.dtr = False; seen.append(get())\n"
        "print(seen)",
    )
    assert shown == "[0, 2, 6, 4]"
    # Set before the answer to the next request is asked for, in the order in which the program asks.
    asked = log.read_text().removeprefix(before).splitlines()
    assert asked[-7:] == ["5415 0", "5416 2", "5415 0", "5416 4", "5415 0", "5417 2", "5415 0"]


def test_modem_lines_of_other_terminals_are_left_to_the_kernel(host: Host) -> None:
    program = (
        "import errno, fcntl, os\n"
        "master, slave = os.openpty()\n"
        "try: fcntl.ioctl(slave, 0x5415, bytes(4))\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert python(host, program) == "ENOTTY"


def test_usb_ids_are_found_through_sysfs(host: Host) -> None:
    program = (
        "from pathlib import Path\n"
        "from serial.tools import list_ports\n"
        "for port in sorted(list_ports.comports()): print(port.device, hex(port.vid), hex(port.pid), port.location)\n"
        "device = Path('/sys/class/tty/ttyUSB1/device').resolve()\n"
        "usb = next(path for path in device.parents if (path / 'idVendor').exists())\n"
        "print((usb / 'idVendor').read_text().strip(), (usb / 'devpath').read_text().strip())"
    )
    assert python(host, program).splitlines() == [
        "/dev/ttyUSB0 0x1a86 0x7523 1-1.1",
        "/dev/ttyUSB1 0x1a86 0x7523 1-1.2",
        "1a86 1.2",
    ]


def test_a_pulled_board_is_gone_and_comes_back(host: Host) -> None:
    listing = "ls /sys/class/tty /dev/serial/by-path; ls /dev | grep USB; readlink /dev/serial/by-id/*"
    before = host.run(listing).stdout
    host.run("python3 -c 'import os; os.read(os.open(\"/dev/ttyUSB1\", os.O_RDWR), 1)' >/tmp/reader 2>&1 & true")
    host.unplug("right")
    assert "ttyUSB1" not in host.run(listing).stdout
    assert host.run("readlink -f /dev/serial/by-id/*").stdout.strip() == "/dev/ttyUSB0"
    assert not host.board("right").running
    host.unplug("right")  # once more does no harm
    host.plug("right")
    assert host.run(listing).stdout == before
    host.unplug("left")
    host.unplug("right")
    assert host.run("ls -d /dev/serial /dev/ttyUSB*").stdout == ""
    host.plug("left")
    host.plug("right")
    assert host.run(listing).stdout == before


def test_files_and_boards_survive_a_power_cut(host: Host) -> None:
    host.run("echo kept > kept; echo lost > /run/user/$(id -u)/lost", check=True)
    machine = host.run("cat /etc/machine-id").stdout
    flash = host.board("left").flash
    flash.write_bytes(b"flashed")
    host.crash()
    assert host.phase == "off"
    assert not host.board("left").running
    host.start()
    assert host.run("cat kept; ls /run/user/$(id -u)/lost", check=False).stdout == "kept\n"
    assert host.run("cat /etc/machine-id").stdout == machine
    assert host.port("left") == "/dev/ttyUSB0"
    assert flash.read_bytes() == b"flashed"


def test_boards_are_plugged_in_before_klipper_starts(host: Host) -> None:
    shown = host.run(
        'stat -c %Z /dev/serial/by-path/*; date +%s -d "$(systemctl show -P ExecMainStartTimestamp klipper)"',
        check=True,
    )
    *plugged, klipper = map(int, shown.stdout.split())
    assert max(plugged) <= klipper + 1


def test_boards_with_their_own_supply_outlive_a_power_cut(host: Host) -> None:
    host.crash(keep_boards=True)
    assert host.board("left").running
    host.start()
    assert host.port("left") == "/dev/ttyUSB0"


def test_a_clean_stop_and_a_reboot(host: Host) -> None:
    host.stop()
    assert host.phase == "off"
    host.stop()
    host.start()
    booted = host.run("systemctl show -P UserspaceTimestampMonotonic", check=True).stdout
    host.run("sudo systemctl reboot")
    eventually(f'test "$(systemctl show -P UserspaceTimestampMonotonic)" != {booted}', host)
    eventually("test -c /dev/ttyUSB0 && test -c /dev/ttyUSB1", host)


def test_two_labs_coexist(lab: Lab) -> None:
    with Lab.up("test-other", (HostSpec("printer-1", (fake("left"),)),), "10.79.1") as other:
        assert other.host("printer-1").run("hostname -I", check=True).stdout.split() == ["10.79.1.11"]
        assert lab.host("printer-2").run("hostname -I", check=True).stdout.split() == ["10.79.0.12"]
    assert leftovers(other.layout) == []
    assert lab.host("printer-2").run("true").returncode == 0


def test_a_lab_that_is_up_is_not_brought_up_again(lab: Lab) -> None:
    with pytest.raises(LabError, match="already up"):
        Lab.up(lab.name, default_hosts(1), "10.79.2")
    with pytest.raises(LabError, match=r"10\.79\.0\.0/24 is in use"):
        Lab.up("test-clash", default_hosts(1), lab.spec.subnet)
    assert leftovers(Layout("test-clash")) == []
    assert lab.host("printer-2").run("true").returncode == 0


def test_a_host_that_cannot_boot_leaves_nothing_behind() -> None:
    broken = BoardSpec(name="broken", command=("sh", "-c", "echo smoke; exit 1"))
    with pytest.raises(LabError, match=r"printer-1.*broken.*smoke"):
        Lab.up("test-broken", (HostSpec("printer-1", (broken,)),), "10.79.3")
    assert leftovers(Layout("test-broken")) == []


def test_down_cleans_up_after_an_up_that_was_killed() -> None:
    rootfs.ensure(print)
    layout = Layout("test-killed")
    program = (
        "from fleetflash.lab.lab import Lab, default_hosts\n"
        "Lab.up('test-killed', default_hosts(2, {'printer-2': 20.0}), '10.79.4')"
    )
    up = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 20
    while not any((root / layout.cgroup("host.printer-1")).exists() for root in cgroup.roots()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    up.send_signal(signal.SIGKILL)
    up.wait()
    assert leftovers(layout)
    assert down("test-killed")
    assert leftovers(layout) == []
    assert not down("test-killed")


def test_down_needs_no_record_of_the_lab() -> None:
    lab = Lab.up("test-lost", (HostSpec("printer-1", (fake("left"),)),), "10.79.5")
    lab.layout.record.unlink()
    assert down("test-lost")
    assert leftovers(lab.layout) == []


def test_ssh_files_belong_to_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "4711")
    monkeypatch.setenv("SUDO_GID", "4712")
    with Lab.up("test-sudo", (HostSpec("printer-1"),), "10.79.6") as lab:
        for path in (lab.layout.key, lab.layout.known_hosts, lab.ssh_config):
            assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)
        assert lab.layout.key.stat().st_mode & 0o777 == 0o600


def test_the_lab_needs_no_particular_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Lab.up("test-cwd", (HostSpec("printer-1", (fake("left"),)),), "10.79.7") as lab:
        assert lab.host("printer-1").port("left") == "/dev/ttyUSB0"
    assert list(tmp_path.iterdir()) == []
