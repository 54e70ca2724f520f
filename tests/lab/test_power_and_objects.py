"""On a real host: Moonraker switches a dead board off and on, and klippy's objects decide what stays."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import FACTORY, NEXT, WANTED, Fleet, journal, outcome

NETWORK = os.environ.get("FLEETFLASH_TEST_POWER", "test-power=10.95.0").split("=")
CONFIGURATION = """
[power usb hub]
type: http
on_url: {address}/on
off_url: {address}/off
status_url: {address}/status
response_template:
    {{% set answer = http_request.last_response().json() %}}
    {{answer["state"]}}
"""


class Plug:
    """A socket on the network that feeds a board, as Moonraker's ``http`` devices are: ``/on``, ``/off``, ``/status``.

    Source: Moonraker's documentation, Configuration, "Generic HTTP Devices".
    """

    def __init__(self, host: Host, address: str) -> None:
        self.switched: list[str] = []
        self.state = "on"
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                word = self.path.strip("/")
                if word in ("on", "off"):
                    plug.state = word
                    plug.switched.append(word)
                    host.board("bmcu").control.power(word == "on")
                data = json.dumps({"state": plug.state}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.address = f"http://{address}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    require_lab()
    name, subnet = NETWORK
    with Lab.up(name, (HostSpec("printer-1", (BoardSpec("bmcu"),)),), subnet, wait_klippy=60.0) as lab:
        yield Fleet(lab, tmp_path_factory.mktemp("power"))
    assert leftovers(lab.layout) == []


@full_only
@pytest.mark.lab
def test_board_that_dies_after_its_flash_is_switched_off_and_on_by_moonraker_and_kept(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-1")
    fleet.reset(host)
    plug = Plug(host, f"{NETWORK[1]}.1")
    added = CONFIGURATION.format(address=plug.address)
    host.run(f"cat >> printer_data/config/moonraker.conf <<'END'\n{added}\nEND", check=True)
    host.run("sudo systemctl restart moonraker", check=True)
    host.wait_klippy("ready", 60.0)
    host.board("bmcu").control.ask("fault", kind="power_cut", command="klipper", version=WANTED)
    data = {"firmware": "klipper-bmcu-c", "chip": "ch32v203c8t6", "firmware_version": WANTED}
    run = fleet.pyinfra(fleet.write_inventory(printer_1={**data, "power": {"moonraker": "usb hub"}}))
    plug.server.shutdown()
    assert run.code == 0 and run.line("printer-1", "bmcu", "flashed"), run.output
    assert plug.switched == ["off", "on"] and host.board("bmcu").control.status()["version"] == WANTED
    at = {entry["step"]: entry["monotonic"] for entry in journal(host)}
    assert at["power-on"] - at["power-off"] >= 10.0 and "restoring" not in at
    host.wait_klippy("ready", 5.0)


@full_only
@pytest.mark.lab
def test_flash_stays_only_when_klippys_objects_are_as_they_shall_be(fleet: Fleet) -> None:
    host = fleet.lab.host("printer-1")
    fleet.reset(host)
    data = {"firmware": "klipper-bmcu-c", "chip": "ch32v203c8t6", "firmware_version": NEXT, "object_checks_seconds": 3}
    homed = {"object": "toolhead", "field": "homed_axes"}
    speed = {"object": "toolhead", "field": "max_velocity", "min": 100, "max": 400}
    run = fleet.pyinfra(fleet.write_inventory(printer_1={**data, "object_checks": [speed, {**homed, "equals": "xyz"}]}))
    assert run.code == 1 and run.line("bmcu", "object toolhead: homed_axes is '', expected 'xyz'"), run.output
    assert outcome(host)["outcome"] == "restored" and host.board("bmcu").control.status()["version"] == FACTORY
    host.wait_klippy("ready", 5.0)
    run = fleet.pyinfra(fleet.write_inventory(printer_1={**data, "object_checks": [speed, {**homed, "equals": ""}]}))
    assert run.code == 0 and host.board("bmcu").control.status()["version"] == NEXT, run.output
