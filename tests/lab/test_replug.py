"""Boards that are USB devices themselves go and come back as others, as udev would show it, on a real host."""

import os
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-container"),
]

BOARDS = (
    BoardSpec("main", kind="katapult-f446", uid="00112233445566778899aabb"),
    BoardSpec("tool", mcu="tool", kind="katapult-rp2040", uid="e66038b71353a32f"),
    BoardSpec("old", mcu="old", kind="atmega2560"),
    BoardSpec("pill", mcu="pill", kind="stm32f103"),
)
PATH = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{}:1.0"
MAIN, TOOL, OLD, PILL = (PATH.format(socket) for socket in range(1, 5))
KLIPPER = "usb-Klipper_stm32f446xx_00112233445566778899AABB-if00"
KATAPULT = "usb-katapult_stm32f446xx_00112233445566778899AABB-if00"
# Katapult's "complete": 0x15, no payload.
LEAVE = r"\x01\x88\x15\x00\x91\x1b\x99\x03"


def wait_for(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab.up("replug", (HostSpec("printer-1", BOARDS),), "10.92.0", wait_klippy=60.0) as lab:
        yield lab.host("printer-1")
    assert leftovers(lab.layout) == []


@pytest.fixture
def quiet(host: Host) -> Iterator[Host]:
    """The host without klippy, which would hold the ports."""
    host.run("sudo systemctl stop klipper", check=True)
    yield host
    host.run("sudo systemctl start klipper", check=True)
    host.wait_klippy("ready", 60.0)


def output(host: Host, command: str) -> str:
    return host.run(command, check=True).stdout.strip()


def product(host: Host, path: str) -> str:
    """The USB product id behind a port, by sysfs; empty while nothing is there."""
    return host.run(f"cat /sys/class/tty/$(basename $(readlink -e {path}))/device/../idProduct").stdout.strip()


def touch(host: Host, path: str) -> None:
    """Open and close at 1200 baud. Klippy has cleared HUPCL, which a port keeps: without it closing drops no line."""
    host.run(f"stty -F {path} 1200 hupcl", check=True)


DROP_DTR = """
import fcntl, os, struct, sys, termios
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
mode = termios.tcgetattr(fd)
mode[4] = mode[5] = termios.B1200
termios.tcsetattr(fd, termios.TCSANOW, mode)
fcntl.ioctl(fd, termios.TIOCMBIC, struct.pack("I", termios.TIOCM_DTR))
"""


def leave(host: Host, path: str) -> None:
    host.run(f"stty -F {path} raw 115200 && printf '{LEAVE}' > {path}", check=True)


def test_klippy_is_ready_with_boards_of_every_kind(host: Host) -> None:
    """With its own view of each: version and MCU name as the board's dictionary says."""
    assert host.moonraker.klippy_state() == "ready"
    for board in BOARDS:
        assert host.board(board.name).control.status()["version"] == "v0.11.0"
    links = output(host, "ls /dev/serial/by-id").split()
    assert set(links) == {KLIPPER, "usb-Klipper_rp2040_E66038B71353A32F-if00", "usb-1a86_USB_Serial-if00-port0"}
    assert (product(host, MAIN), product(host, TOOL)) == ("614e", "614e")


def test_a_touch_enters_katapult_under_the_same_path_and_another_id(quiet: Host) -> None:
    before = output(quiet, f"readlink -e {MAIN}")
    quiet.run(f"python3 - {MAIN}", stdin=DROP_DTR, check=True)
    wait_for(lambda: product(quiet, MAIN) == "6177")
    names = output(quiet, "ls /dev/serial/by-id")
    assert KATAPULT in names
    assert KLIPPER not in names
    assert output(quiet, f"readlink -e {MAIN}") == before == output(quiet, f"readlink -e /dev/serial/by-id/{KATAPULT}")
    assert output(quiet, f"stat -c '%U:%G %a' {before}") == "root:dialout 660"
    assert quiet.board("main").control.status()["mode"] == "bootloader"
    assert product(quiet, TOOL) == "614e"
    leave(quiet, MAIN)
    wait_for(lambda: product(quiet, MAIN) == "614e")
    assert KLIPPER in output(quiet, "ls /dev/serial/by-id")


def test_a_board_whose_old_port_is_still_held_comes_back_under_another_number(quiet: Host) -> None:
    before = output(quiet, f"readlink -e {TOOL}")
    quiet.run(f"sh -c 'sleep 30 < {TOOL}' > /dev/null 2>&1 & sleep 0.2")
    touch(quiet, TOOL)
    # Somebody else has it open: the driver does not hang up yet. The request string does without.
    time.sleep(0.5)
    assert product(quiet, TOOL) == "614e"
    quiet.run(rf"printf '~ \x1c Request Serial Bootloader!! ~' > {TOOL}", check=True)
    wait_for(lambda: product(quiet, TOOL) == "6177")
    after = output(quiet, f"readlink -e {TOOL}")
    assert after != before
    assert after.startswith("/dev/ttyACM")
    assert quiet.run(f"test -e {before}").returncode != 0
    quiet.run("pkill -x sleep")
    leave(quiet, TOOL)
    wait_for(lambda: product(quiet, TOOL) == "614e")


def test_power_and_cable_take_the_port_away(quiet: Host) -> None:
    control = quiet.board("main").control
    control.power(False)
    wait_for(lambda: quiet.run(f"test -e {MAIN}").returncode != 0)
    control.power(True)
    wait_for(lambda: product(quiet, MAIN) == "614e")
    quiet.unplug("main")
    assert quiet.run(f"test -e {MAIN}").returncode != 0
    quiet.plug("main")
    wait_for(lambda: product(quiet, MAIN) == "614e")


PARITY = """
import fcntl, os, struct, sys, termios, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
mode = termios.tcgetattr(fd)
mode[0] = mode[1] = mode[3] = 0
mode[2] = termios.CS8 | termios.CREAD | termios.CLOCAL | (termios.PARENB if sys.argv[2] == "even" else 0)
mode[4] = mode[5] = termios.B115200
termios.tcsetattr(fd, termios.TCSANOW, mode)
assert bool(termios.tcgetattr(fd)[2] & termios.PARENB) == (sys.argv[2] == "even")
for bits in (0, termios.TIOCM_RTS):
    fcntl.ioctl(fd, termios.TIOCMSET, struct.pack("I", bits))
    time.sleep(0.05)
os.set_blocking(fd, False)
for request in (b"\\x7f", b"\\x02\\xfd"):
    os.write(fd, request)
    time.sleep(0.2)
try:
    print(os.read(fd, 99).hex())
except BlockingIOError:
    print("nothing")
fcntl.ioctl(fd, termios.TIOCMSET, struct.pack("I", termios.TIOCM_RTS | termios.TIOCM_DTR))
"""


@pytest.mark.parametrize(("parity", "answer"), [("even", "79" + "7901041079"), ("none", "79")])
def test_parity_and_lines_reach_the_board_through_the_shim(quiet: Host, parity: str, answer: str) -> None:
    path = f"{PILL}-port0"
    assert quiet.run(f"python3 - {path} {parity}", stdin=PARITY, check=True).stdout.strip() == answer
    quiet.board("pill").control.ask("tap")
    assert quiet.board("pill").control.status()["mode"] == "application"


def test_ports_are_there_again_after_the_host_has_lost_power_and_its_boards_have_not(host: Host) -> None:
    host.crash(keep_boards=True)
    host.start()
    wait_for(lambda: product(host, MAIN) == "614e")
    assert host.port("main") == output(host, f"readlink -e {MAIN}")
    host.wait_klippy("ready", 60.0)
