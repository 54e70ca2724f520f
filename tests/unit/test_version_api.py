"""A gateway with a version API is asked what it runs, once and through the network, before anything is decided."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleetflash.boards import Board
from fleetflash.functional.version_api import VersionApiError, running_version, version_field
from tests.unit.observed import board
from tests.unit.web_gateway import WebGateway

FIELDS = {"uptime": {"min": 1}, "app.version": "{version}"}
STATUS = json.dumps({"app": {"version": "v1.2.0"}, "uptime": 7}).encode()


def gateway(address: str = "", fields: dict[str, Any] | None = None, **check: Any) -> Board:
    address, _, port = address.partition(":")
    described = {
        "url": f"http://{{address}}:{port or 80}/status",
        "fields": FIELDS if fields is None else fields,
        **check,
    }
    checks = {"http": {"web": {"url": "http://{address}/"}, "api": described}}
    return board("gw", chip="esp32", programmer="esptool", firmware="gateway", address=address, checks=checks)


def test_the_field_that_is_held_against_the_pin_is_the_version() -> None:
    assert version_field(gateway()) == ("api", "app.version")
    assert version_field(gateway(fields={"uptime": {"min": 1}})) is None
    assert version_field(board("gw")) is None
    assert running_version("desk", board("gw")) == ""


def test_it_tells_its_version_whatever_is_wanted() -> None:
    with WebGateway(status=(200, STATUS)) as web:
        assert running_version("desk", gateway(web.address)) == "v1.2.0"
    assert [path for path, _ in web.asked] == ["/status"]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ((503, STATUS), "/status answered with status 503"),
        ((200, b"<html>"), "no JSON"),
        ((200, b"{}"), "no field app"),
        ((200, b'{"app": {"version": 7}}'), "app.version is no version: 7"),
        ((200, b'{"app": {"version": ""}}'), "app.version is no version: ''"),
    ],
)
def test_one_that_does_not_say_it_is_told_so(page: Any, said: str) -> None:
    with WebGateway(status=page) as web, pytest.raises(VersionApiError, match=said):
        running_version("desk", gateway(web.address))


def test_one_that_is_off_is_told_so_in_one_line() -> None:
    with WebGateway() as web:
        address = web.address
    with pytest.raises(VersionApiError, match="does not answer") as silent:
        running_version("desk", gateway(address))
    assert "\n" not in str(silent.value)


def test_without_an_address_it_is_said_what_is_missing() -> None:
    with pytest.raises(VersionApiError, match="needs the board's address"):
        running_version("desk", gateway())


def test_a_password_that_is_sent_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEWAY_LOGIN", "hunter2-of-the-shop")
    said = json.dumps({"app": {"version": ["hunter2-of-the-shop"]}}).encode()
    with WebGateway(status=(200, said)) as web:
        with pytest.raises(VersionApiError) as refused:
            running_version("desk", gateway(web.address, user="me", auth={"env": "GATEWAY_LOGIN"}))
        assert web.asked[0][1].startswith("Basic ")
    assert "hunter2" not in str(refused.value)
