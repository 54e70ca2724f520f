"""ESP boards at the USB sockets of a lab's host: reset by their modem lines, flashed by esptool inside of the host."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from fleetflash.lab.esp_image import build_app
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.tools import install_esptool

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-container"),
]

ESPTOOL = "env PYTHONPATH=/opt/esptool NO_COLOR=1 COLUMNS=200 python3 -m esptool"
MAC = "240ac400cafe"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    boards = (BoardSpec("gateway", mcu="", kind="esp32s3", uid=MAC), BoardSpec("spare", mcu="", kind="esp32"))
    with Lab.up("test-esp", (HostSpec("printer-1", boards),), "10.76.0") as lab:
        host = lab.host("printer-1")
        install_esptool(host, "/opt/esptool")
        yield host
    assert leftovers(lab.layout) == []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_a_gateway_leaves_the_factory_with_its_firmware(host: Host) -> None:
    for name in ("gateway", "spare"):
        wait_for(lambda name=name: host.board(name).control.status()["mode"] == "application")
        assert host.board(name).control.status()["version"] == "v0.11.0"
    assert "ttyUSB" not in host.run("cat printer_data/config/printer.cfg", check=True).stdout


def test_esptool_in_the_host_resets_and_flashes_the_board(host: Host) -> None:
    said = host.run(f"{ESPTOOL} --port /dev/ttyUSB0 read-mac", check=True).stdout
    assert "Detecting chip type... ESP32-S3" in said
    assert "MAC:                24:0a:c4:00:ca:fe" in said
    wait_for(lambda: host.board("gateway").control.status()["mode"] == "application")
    app = build_app("esp32s3", "v0.12.0")
    subprocess.run([*host.ssh_command(), "cat > app.bin"], input=app, check=True, timeout=30)
    written = host.run(f"{ESPTOOL} --port /dev/ttyUSB0 --baud 921600 write-flash 0x10000 app.bin", check=True).stdout
    assert "Hash of data verified." in written
    assert "was NOT reset" not in written
    wait_for(lambda: host.board("gateway").control.status()["version"] == "v0.12.0")
    wait_for(lambda: host.board("gateway").control.status()["mode"] == "application")
    assert host.board("spare").control.status()["version"] == "v0.11.0"


def test_a_flash_cut_short_by_the_host_leaves_a_board_that_is_flashed_again(host: Host) -> None:
    board = host.board("spare")
    app = build_app("esp32", "v0.13.0")
    subprocess.run([*host.ssh_command(), "cat > app2.bin"], input=app, check=True, timeout=30)
    board.control.pause("program", byte=0x20000)
    command = f"{ESPTOOL} --port /dev/ttyUSB1 --baud 921600 write-flash 0x10000 app2.bin"
    recorded = f"echo $$ >flashing; exec {command}"
    with subprocess.Popen(
        [*host.ssh_command(), recorded], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as flashing:
        board.control.wait_paused(30)
        host.run("kill $(cat flashing)", check=True)
        flashing.communicate(timeout=30)
    assert board.control.status()["version"] is None
    assert "Hash of data verified." in host.run(command, check=True).stdout
    wait_for(lambda: board.control.status()["mode"] == "application")
    assert board.control.status()["version"] == "v0.13.0"
