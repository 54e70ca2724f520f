"""``fleetflash check``: rows, JSON, captures and exit codes, for an inventory whose hosts are not even on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.candump_logs import bus
from tests.unit.web_gateway import WebGateway

INVENTORY = """
gateways = [
    ("desk", {{
        "ssh_hostname": "127.0.0.1", "ssh_port": 1, "klipper_service": None, "firmware": "gateway", "chip": "esp32",
        "programmer": "esptool", "firmware_version": "v1",
        "boards": {{
            "east": {{"port": "/dev/x", "address": "{address}",
                      "checks": {{"http": {{"api": {{"url": "http://{{address}}:{port}/api",
                                                    "fields": {{"version": "{{version}}"}}, "within": 0.2}}}},
                                  "can": {{"log": "{log}"}}}}}},
            "west": {{"port": "/dev/y"}},
            "bad": {{"port": "/dev/z", "checks": {{"can": {{}}}}}},
        }},
    }}),
    ("shelf", {{"ssh_hostname": "127.0.0.1", "ssh_port": 1, "boards": {{}}}}),
]
"""


def check(directory: Path, gateway: WebGateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    log = directory / "can.log"
    log.write_bytes(b"\n".join(bus()) + b"\n")
    address, _, port = gateway.address.partition(":")
    inventory = directory / "inventory.py"
    inventory.write_text(INVENTORY.format(address=address, port=port, log=log))
    command = [sys.executable, "-m", "fleetflash", "check", str(inventory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_one_gateway_is_checked_although_its_host_is_off(tmp_path: Path) -> None:
    with WebGateway(api=(200, b'{"version": "v1"}')) as gateway:
        run = check(tmp_path, gateway, "desk/east", "--captures", str(tmp_path / "kept"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "desk  east   http api" in run.stdout and "14 checks: 14 ok" in run.stdout
    assert (tmp_path / "kept" / "desk-east-can.log").read_bytes() == (tmp_path / "can.log").read_bytes()


def test_another_version_is_drift_as_json_says_too(tmp_path: Path) -> None:
    with WebGateway(api=(200, b'{"version": "v0"}')) as gateway:
        run = check(tmp_path, gateway, "east", "--json")
    found = json.loads(run.stdout)
    assert (run.returncode, found["exit_code"]) == (2, 2)
    assert [row["detail"] for row in found["checks"] if row["result"] == "drift"] == [
        f"http://{gateway.address}/api: version = v0"
    ]


def test_without_a_name_all_gateways_with_checks_are_asked(tmp_path: Path) -> None:
    with WebGateway(api=(200, b'{"version": "v1"}')) as gateway:
        run = check(tmp_path, gateway)
    assert run.returncode == 3
    assert "desk/bad: checks: failed: checks.can: expected log, or interface for a capture" in run.stdout
    assert "west" not in run.stdout


@pytest.mark.parametrize("name", ["west", "nobody", "shelf"])
def test_a_gateway_without_checks_is_an_error_in_one_line(tmp_path: Path, name: str) -> None:
    with WebGateway() as gateway:
        run = check(tmp_path, gateway, name)
    assert (run.returncode, run.stdout) == (1, "")
    assert f"no gateway called {name} with checks" in run.stderr and run.stderr.count("\n") == 1
