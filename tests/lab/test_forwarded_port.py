"""A printer's serial port is everybody's own: plain pyserial programs talk to a board through fleetflash://."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fleetflash.lab.host import Host
from tests.lab.fleet import FACTORY, ROOT, Fleet

pytestmark = pytest.mark.lab

# A program that knows pyserial and nothing of fleetflash: it reads a board's Klipper dictionary.
PROGRAM = """
import serial, sys, zlib

def crc(data):
    value = 0xFFFF
    for byte in data:
        byte ^= value & 0xFF
        byte ^= (byte << 4) & 0xFF
        value = ((byte << 8) | (value >> 8)) ^ (byte >> 4) ^ (byte << 3)
    return value.to_bytes(2, "big")

def number(value):
    return bytes([value]) if value < 96 else bytes([0x80 | value >> 7, value & 0x7F])

port = serial.serial_for_url(sys.argv[1], 250000, timeout=2)
sequence, dictionary = 0, b""
while True:
    payload = bytes([1]) + number(len(dictionary)) + bytes([40])
    block = bytes([len(payload) + 5, 0x10 | sequence]) + payload
    port.write(block + crc(block) + b"~")
    head = port.read(2)
    rest = port.read(head[0] - 2)
    sequence = head[1] & 0x0F
    if head[0] == 5:
        continue
    piece = rest[3 if len(dictionary) < 96 else 4 : -3]
    port.read(5)
    if not piece:
        break
    dictionary += piece
port.close()
sys.stdout.buffer.write(zlib.decompress(dictionary))
"""


@pytest.fixture
def host(fleet: Fleet) -> Iterator[Host]:
    """A printer whose Klipper is stopped, so that its port is free."""
    host = fleet.lab.host("printer-1")
    fleet.reset(host)
    host.run("sudo systemctl stop klipper", check=True)
    yield host
    host.run("sudo systemctl reset-failed klipper; sudo systemctl start klipper", check=True)


def environment(fleet: Fleet) -> dict[str, str]:
    return {**os.environ, "FLEETFLASH_SSH_CONFIG": str(fleet.lab.ssh_config)}


def test_plain_pyserial_script_reads_a_boards_dictionary(fleet: Fleet, host: Host) -> None:
    url = f"fleetflash://pi@{host.name}/dev/ttyUSB0"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, url], env=environment(fleet), capture_output=True, timeout=60, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr.decode()
    assert json.loads(result.stdout)["version"] == FACTORY


def test_miniterm_shows_what_a_board_sends(fleet: Fleet, host: Host) -> None:
    terminal, side = pty.openpty()
    url = f"fleetflash://pi@{host.name}/dev/ttyUSB0"
    miniterm = subprocess.Popen(
        [sys.executable, "-m", "serial.tools.miniterm", "--raw", url, "250000"],
        env=environment(fleet),
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=ROOT,
    )
    os.close(side)
    shown = _read_until(terminal, b"Help:")
    # An empty line is no Klipper block: the board answers it with a block that says which it expects.
    os.write(terminal, b"~\n~")
    shown += _read_until(terminal, b"~")
    os.write(terminal, b"\x1d")
    assert miniterm.wait(20) == 0
    os.close(terminal)
    assert b"Miniterm on fleetflash://" in shown
    assert shown.rstrip().endswith(b"~")


def test_port_that_klipper_holds_is_refused_and_names_the_holder(fleet: Fleet, host: Host) -> None:
    host.run("sudo systemctl reset-failed klipper; sudo systemctl start klipper", check=True)
    host.wait_klippy("ready", 30.0)
    program = "import serial, sys; serial.serial_for_url(sys.argv[1])"
    url = f"fleetflash://pi@{host.name}/dev/ttyUSB0"
    result = subprocess.run(
        [sys.executable, "-c", program, url], env=environment(fleet), capture_output=True, timeout=60
    )
    assert result.returncode != 0
    last = result.stderr.decode().splitlines()[-1]
    assert "printer-1: /dev/ttyUSB0" in last and "klippy" in last


def _read_until(descriptor: int, end: bytes, seconds: float = 20.0) -> bytes:
    deadline = time.monotonic() + seconds
    data = b""
    while end not in data:
        assert time.monotonic() < deadline, data
        data += os.read(descriptor, 1024)
    return data
