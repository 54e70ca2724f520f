"""Espressif's esptool, as its user types it, has the board of another host by its URL: reset, flash, verify, read."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetflash.lab.esp_image import build_app
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import require_lab

pytestmark = pytest.mark.lab

MAC = "240ac400beef"
DEVICE = "/dev/ttyUSB0"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    require_lab()
    boards = (BoardSpec("gateway", mcu="", kind="esp32", uid=MAC),)
    with Lab.up("test-url", (HostSpec("printer-1", boards),), "10.74.0") as lab:
        yield lab.host("printer-1")
    assert leftovers(lab.layout) == []


def esptool(host: Host, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "esptool", "--port", f"fleetflash://{host.name}{DEVICE}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "FLEETFLASH_SSH_CONFIG": str(host.layout.ssh_config),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
        timeout=120,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_the_ports_lines_reset_the_chip_into_its_loader_and_out_of_it(host: Host) -> None:
    control = host.board("gateway").control
    wait_for(lambda: control.status()["mode"] == "application")
    resets = control.status()["resets"]
    run = esptool(host, "read-mac")
    assert run.returncode == 0 and "24:0a:c4:00:be:ef" in run.stdout, run.stdout
    wait_for(lambda: control.status()["mode"] == "application")
    assert control.status()["resets"] >= resets + 2


def test_what_is_written_is_verified_read_back_and_runs(host: Host, tmp_path: Path) -> None:
    control = host.board("gateway").control
    app, back = tmp_path / "app.bin", tmp_path / "back.bin"
    app.write_bytes(build_app("esp32", "v2.0.0", size=0x14000))
    written = esptool(host, "--baud", "921600", "write-flash", "0x10000", str(app))
    assert written.returncode == 0 and "Hash of data verified." in written.stdout, written.stdout
    verified = esptool(host, "verify-flash", "0x10000", str(app))
    assert verified.returncode == 0 and "Verification successful" in verified.stdout, verified.stdout
    read = esptool(host, "--baud", "921600", "read-flash", "0x10000", str(app.stat().st_size), str(back))
    assert read.returncode == 0 and back.read_bytes() == app.read_bytes(), read.stdout
    wait_for(lambda: control.status()["mode"] == "application")
    assert control.status()["version"] == "v2.0.0"


def test_a_port_that_somebody_holds_is_refused_by_its_holders_name(host: Host) -> None:
    holding = f"import sys; port = open({DEVICE!r}, 'rb+', buffering=0); print('held', flush=True); sys.stdin.read()"
    command = [*host.ssh_command(), f'python3 -c "{holding}"']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        run = esptool(host, "read-mac")
        holder.communicate()
    assert run.returncode != 0 and "printer-1" in run.stdout and "in use by" in run.stdout, run.stdout


def test_a_host_whose_key_is_unknown_is_refused(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "ssh_config"
    known = host.layout.ssh_config.read_text().replace(str(host.layout.known_hosts), str(tmp_path / "empty"))
    config.write_text(known + "  GlobalKnownHostsFile /dev/null\n")
    program = f"import serial; serial.serial_for_url('fleetflash://{host.name}{DEVICE}?ssh_config={config}')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "is not in" in run.stderr.splitlines()[-1] and "ssh-keyscan" in run.stderr.splitlines()[-1], run.stderr
