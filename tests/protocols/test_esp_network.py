"""A simulated gateway's networks, seen by others: a real broker and its clients, HTTP, and the product's own checks."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import subscribe

from fleetflash.boards import Board
from fleetflash.functional.gateway import check_gateway
from fleetflash.functional.version_api import VersionApiError, running_version
from fleetflash.lab.esp_image import build_app, build_layout
from fleetflash.verification.check import Check, Result
from tests.protocols.esp_board import EspDevice, wait_for
from tests.unit.mqtt_broker import PASSWORD, USER, Broker, needs_mosquitto

VERSION = "v1.2.3"
pytestmark = needs_mosquitto


class Site:
    """A gateway, its broker, and what its inventory says of it."""

    def __init__(self, directory: Path, broker: Broker) -> None:
        self.broker = broker
        self.candump = directory / "can.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        image = build_layout("esp32s3", {"factory": build_app("esp32s3", VERSION, size=0x14000)}).merge()
        options = ["--http", f"127.0.0.1:{self.port}", "--mqtt", f"127.0.0.1:{broker.port}", "--topic", "bms/gw"]
        options += ["--mqtt-login", f"{USER}:{PASSWORD}", "--candump", str(self.candump)]
        self.device = EspDevice("esp32s3", *options, image=image)

    def board(self) -> Board:
        url = f"http://{{address}}:{self.port}"
        fields = {"version": "{version}", "battery.soc": {"min": 0, "max": 100}}
        topics: dict[str, Any] = {
            "status": {"topic": "bms/{board}/status", "retained": True, "payload": "online", "within": 4.0},
            "telemetry": {"topic": "bms/{board}/telemetry", "within": 4.0, "fields": {"voltage": {"min": 40}}},
        }
        http = {
            "web": {"url": f"{url}/", "contains": "gateway", "within": 3.0},
            "api": {"url": f"{url}/api/status", "fields": fields, "within": 3.0},
        }
        mqtt = {"broker": "127.0.0.1", "port": self.broker.port, "user": USER, "auth": {"env": "LOGIN"}}
        messages = {"0x351": {"signals": {"ChargeVoltageLimit": (48, 58.4)}}, "0x355": {}, "0x356": {}}
        return Board(
            name="gw",
            chip="esp32s3",
            port="/dev/ttyUSB0",
            firmware="gateway",
            firmware_version=VERSION,
            programmer="esptool",
            address="127.0.0.1",
            checks={
                "http": http,
                "mqtt": {**mqtt, "topics": topics},
                "can": {"log": str(self.candump), "messages": messages},
            },
        )

    def restart(self, *faults: dict[str, Any]) -> None:
        """Start anew with these faults, and wait until two seconds of frames are there, if any are sent."""
        self.device.do("clear_faults")
        for fault in faults:
            self.device.do("fault", **fault)
        self.candump.unlink(missing_ok=True)
        self.device.do("tap")
        wait_for(lambda: self.candump.exists() and len(self.candump.read_text().splitlines()) >= 5)

    def wrong(self) -> dict[str, Check]:
        """The rows that are not as expected."""

        def none() -> Any:
            raise AssertionError("nothing here needs SSH")

        return {check.name: check for check in check_gateway("desk", self.board(), none) if check.result != Result.OK}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        site = Site(tmp_path_factory.mktemp("site"), broker)
        yield site
        site.device.close()


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN", PASSWORD)


def heard(site: Site, topic: str) -> str:
    """What the broker says first of a topic."""
    login: Any = {"username": USER, "password": PASSWORD}
    message: Any = subscribe.simple(topic, hostname="127.0.0.1", port=site.broker.port, auth=login)
    return bytes(message.payload).decode()


def test_a_gateway_that_runs_passes_all_checks_and_tells_its_version(site: Site) -> None:
    site.restart()
    assert site.wrong() == {}
    assert running_version("desk", site.board()) == VERSION


def test_a_reset_ends_what_it_does_until_its_application_is_back(site: Site) -> None:
    site.restart()
    site.device.download_mode()
    wait_for(lambda: heard(site, "bms/gw/status") == "offline")  # its will, which the broker keeps
    with pytest.raises(VersionApiError, match="does not answer"):
        running_version("desk", site.board())
    said = site.candump.read_text()
    time.sleep(1.2)
    assert site.candump.read_text() == said
    site.restart()
    assert site.wrong() == {}


def is_scale(check: Check) -> bool:
    return check.found.startswith("568 V")


@pytest.mark.parametrize(
    ("fault", "rows", "is_right"),
    [
        ({"kind": "web_down"}, {"http web", "http api"}, lambda check: "does not answer" in check.detail),
        (
            {"kind": "mqtt_silent"},
            {"mqtt status", "mqtt telemetry"},
            lambda check: check.found in ("offline", "nothing"),
        ),
        ({"kind": "can_silent", "text": "356"}, {"can 0x356"}, lambda check: check.found == "absent"),
        ({"kind": "can_off_scale"}, {"can 0x351 ChargeVoltageLimit"}, is_scale),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_each_fault_is_found_by_its_own_check(
    site: Site, fault: dict[str, Any], rows: set[str], is_right: Callable[[Check], bool]
) -> None:
    site.restart(fault)
    wrong = site.wrong()
    assert rows <= set(wrong), wrong
    assert {what.split()[0] for what in wrong} == {what.split()[0] for what in rows}, wrong
    assert all(is_right(wrong[what]) for what in rows), wrong
