"""A gateway from its flash to its release: real SSH, sudo and broker; its CAN frames are printed by its host."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, lab_name, require_lab
from tests.lab.fleet import FACTORY, WANTED, Run
from tests.lab.gateways import MAC, Gateways
from tests.lab.tools import make_virtualenv
from tests.unit.mqtt_broker import PASSWORD, USER, Broker, needs_mosquitto
from tests.unit.web_gateway import WebGateway

pytestmark = pytest.mark.lab

CONTRACT = """contract: 1
within: 8 s
settle: 500 ms
in_order:
  - {name: network, line: "wifi: connected"}
  - {name: ready, line: "gateway: ready"}
"""
#: Stands in for can-utils where there is no CAN: what candump -L prints of a bus with the three messages.
#: The interrupt that ends it reaches date, too, whose line is left out then.
CANDUMP = """#!/bin/sh
trap 'exit 0' INT
while :; do
    for frame in 351#4802E803B004B801 355#500063004C1F 356#6F1483FFD600; do
        now=$(date +%s.%N | cut -c1-17)
        test ${#now} = 17 && echo "($now) $2 $frame"
    done
    sleep 0.1
done
"""


class Desk(Gateways):
    """The host without a printer, and the one store that knows its gateway's firmware."""

    def inventory_of(self, web: WebGateway, broker: Broker) -> str:
        contract = self.directory / "boot.yaml"
        contract.write_text(CONTRACT)
        http = {"api": {"url": f"http://{{address}}:{web.port}/api", "fields": {"version": "{version}"}}}
        topics = {"soc": {"topic": "bms/{board}/soc", "payload": {"min": 0, "max": 100}}}
        login = {"user": USER, "auth": {"env": "GATEWAY_LOGIN"}}
        checks: dict[str, Any] = {
            "http": http,
            "mqtt": {"broker": "127.0.0.1", "port": broker.port, "topics": topics, **login},
            "can": {"interface": "can0", "seconds": 2.0},
        }
        data = self.inventory["desk"]
        board = {**data["boards"]["gateway"], "contract": str(contract), "address": "127.0.0.1", "checks": checks}
        path = self.directory / "desk.py"
        host = {**data, "boards": {"gateway": board}, "firmware_version": WANTED}
        path.write_text(f"gateways = {[('desk', host)]!r}\n")
        return str(path)

    def at_desk(self, *arguments: str) -> Run:
        return self.finish(self._start("fleetflash", *arguments, store=str(self.directory / "desk")))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require_lab()
    name, subnet = lab_name()
    hosts = (HostSpec("desk", (BoardSpec("gateway", mcu="", kind="esp32s3", uid=MAC),)),)
    with Lab.up(name, hosts, subnet) as lab:
        desk = lab.host("desk")
        desk.run("sudo systemctl disable --now klipper moonraker", check=True)
        desk.run("sudo rm /etc/systemd/system/klipper.service && sudo systemctl daemon-reload", check=True)
        desk.run("sudo tee /usr/local/bin/candump", stdin=CANDUMP, check=True)
        desk.run("sudo chmod 755 /usr/local/bin/candump", check=True)
        make_virtualenv(desk)
        desk.run("sudo sync", check=True)
        yield Desk(lab, tmp_path_factory.mktemp("desk"))
    assert leftovers(lab.layout) == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.2):
            broker.publish("bms/gateway/soc", "80")

    with Broker(tmp_path) as broker:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield broker
        ended.set()
        thread.join()


def answer(version: str) -> tuple[int, bytes]:
    return (200, json.dumps({"version": version}).encode())


@full_only
@needs_mosquitto
def test_only_a_gateway_that_does_its_work_becomes_a_release(
    fleet: Desk, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_LOGIN", PASSWORD)
    with WebGateway(api=answer(FACTORY)) as web:
        inventory = fleet.inventory_of(web, broker)
        early = fleet.at_desk("release", "make", inventory, "desk/gateway", "--site", "lyon")
        assert early.code == 2 and early.line("desk/gateway", "put it right first"), early.output
        flashed = fleet.pyinfra(Path(inventory), store=str(fleet.directory / "desk"))
        assert flashed.code == 0 and "1 flashed" in flashed.output, flashed.output
        web.pages["/api"] = [answer(WANTED)]
        checked = fleet.at_desk("check", inventory)
        assert checked.code == 0 and checked.line("http api", f"version = {WANTED}", "ok"), checked.output
        assert checked.line("mqtt soc", "80", "ok") and checked.line("can 0x355 StateOfCharge ", "80 %", "ok")
        verified = fleet.at_desk("verify", inventory, "--no-rebuild")
        assert verified.code == 0 and verified.line("can 0x356 BatteryVoltage", "52.31 V", "ok"), verified.output
        made = fleet.at_desk("release", "make", inventory, "desk/gateway", "--site", "lyon")
        assert made.code == 0, made.output
        web.pages["/api"] = [answer("v0.0.1")]
        drifted = fleet.at_desk("verify", inventory, "--no-rebuild")
        assert drifted.code == 2 and drifted.line("http api", "v0.0.1", "drift"), drifted.output
        deployed = fleet.pyinfra(Path(inventory), deploy="deploys/verify.py", store=str(fleet.directory / "desk"))
        assert deployed.code == 2 and deployed.line("http api", "v0.0.1", "drift"), deployed.output
        assert deployed.line("can 0x351 ", "ok") and deployed.line("mqtt soc", "ok"), deployed.output
        refused = fleet.at_desk("release", "make", inventory, "gateway", "--site", "lyon")
        assert refused.code == 2 and refused.line("desk/gateway: version: v0.0.1", "put it right first"), refused.output
    (release,) = json.loads(fleet.at_desk("release", "list", "--json").output)
    assert (release["site"], release["version"]) == ("lyon", WANTED)
    assert [boot["accepted"] for boot in release["boots"]] == [True]
    assert {"captures/can.log", "boot/boot.yaml", "boot/monitor-gateway-1.log"} <= set(release["files"])
    assert PASSWORD not in json.dumps(release)
    exported = fleet.at_desk("release", "export", "gateway", str(fleet.directory / "share"))
    assert exported.code == 0, exported.output
