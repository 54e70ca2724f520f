"""Gateway types in group data: typed, and what can't be is refused by its field, without showing what may be secret."""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import BoardTypeError
from fleetflash.build.idf.esp_idf import read_esp_idf
from fleetflash.build.idf.gateway_type import read_gateway_types

ARCHIVE = {"urls": "https://downloads.example.org/esp-idf-v5.3.1.zip", "sha256": "0" * 64}
ESP_IDF: dict[str, dict[str, Any]] = {
    "5.3": {"version": "v5.3.1", "path": "/opt/esp/idf", "tools_path": "~/.espressif"}
}


def fields(**changed: Any) -> dict[str, Any]:
    usual = {
        "firmware": "tinybms-gateway",
        "repository": "https://example.org/gateway.git",
        "ref": "v1.0.0",
        "target": "esp32",
        "esp_idf": "5.3",
    }
    return usual | changed


def test_a_gateway_type_is_typed() -> None:
    settings = {
        "can": {"tx_gpio": 17, "rx_gpio": 16, "keepalive_interval_ms": 1000, "keepalive_timeout_ms": 10000},
        "station": {"ssid": "plant", "password": {"file": "~/wifi"}},
        "kconfig": {"X": True, "Y": 5, "Z": "text", "OTA_TOKEN": {"command": ["pass", "show", "ota"]}},
    }
    found = read_gateway_types({"lyon": fields(settings=settings, tests={})}, read_esp_idf(ESP_IDF))["lyon"]
    assert found.settings.can.tx_gpio == 17 and found.chip.name == "esp32"
    assert found.settings.kconfig["X"] is True and found.settings.kconfig["Y"] == 5
    assert found.tests is not None and found.tests.command == ("idf.py", "test")
    assert found.settings.station.password is not None and found.settings.station.password.file == "~/wifi"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ref": ""}, "ref: String should have at least 1 character"),
        ({"target": "esp99"}, "target: "),
        ({"target": "atmega328p"}, "target: expected a chip that ESP-IDF builds for"),
        ({"esp_idf": "4.4"}, "esp_idf '4.4' is not described, there is 5.3"),
        ({"color": "red"}, "color is no field of a gateway type"),
        ({"site": "esp32s3"}, "sdkconfig.defaults.esp32s3 has a meaning of its own"),
        ({"site_settings": {"can": {"tx_gpio": 5}}}, "site_settings without a site; name it"),
        ({"project": "../elsewhere"}, "project: expected a path inside of the repository"),
        ({"secret_files": {"/etc/key": {"env": "KEY"}}}, "secret_files: expected a path inside"),
        (
            {"settings": {"can": {"tx_gpio": 99}}},
            "settings.can.tx_gpio: Input should be less than or equal to 48, found 99",
        ),
        ({"settings": {"can": {"tx_gpio": "17"}}}, "settings.can.tx_gpio: Input should be a valid integer"),
        ({"settings": {"can": {"tx_gpio": 4, "rx_gpio": 4}}}, "tx_gpio and rx_gpio are both 4"),
        (
            {"settings": {"can": {"keepalive_interval_ms": 900, "keepalive_timeout_ms": 900}}},
            "keepalive_timeout_ms 900 is not above keepalive_interval_ms 900",
        ),
        ({"settings": {"access_point": {"channel": 14}}}, "settings.access_point.channel: "),
        ({"settings": {"station": {"ssid": ""}}}, "settings.station.ssid: "),
        ({"settings": {"flasher": {"size": "3MB"}}}, "settings.flasher.size: "),
        ({"settings": {"kconfig": {"X": 1.5}}}, "settings.kconfig.X"),
        ({"tests": {"command": []}}, "tests.command: "),
    ],
)
def test_what_can_not_be_is_refused_by_its_field(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(BoardTypeError) as error:
        read_gateway_types({"lyon": fields(**changed)}, read_esp_idf(ESP_IDF))
    assert str(error.value).startswith("gateway_types.lyon: ") and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"station": {"password": "c4nary-password"}},
        {"station": {"password": {"value": "c4nary-password"}}},
        {"mqtt": {"broker_uri": "mqtt://user:c4nary-password@broker"}},
        {"mqtt": {"password": ["c4nary-password"]}},
        {"password": "c4nary-password"},
        {"kconfig": {"PASSWORD": {"env": "c4nary-password"}}},
    ],
)
def test_a_password_in_the_wrong_place_is_refused_without_being_shown(settings: dict[str, Any]) -> None:
    with pytest.raises(BoardTypeError) as error:
        read_gateway_types({"lyon": fields(settings=settings)}, read_esp_idf(ESP_IDF))
    assert "c4nary" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": "v4.4.8"}, "esp_idf.5.3: version"),
        ({"version": "5.3.1"}, "esp_idf.5.3: version"),
        ({"path": "esp-idf"}, "esp_idf.5.3: path"),
        ({"tools_path": "/opt/a:b"}, "esp_idf.5.3: tools_path"),
        ({"archive": ARCHIVE}, "esp_idf.5.3: an archive is installed into the cache; leave path and tools_path out"),
        ({"directory": "esp-idf"}, "esp_idf.5.3: directory is for an archive; leave it out"),
        ({"python": "3.11"}, "esp_idf.5.3: python is no field of an ESP-IDF; see docs/gateway-builds.md"),
    ],
)
def test_an_esp_idf_that_can_not_be_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(BoardTypeError, match=reason):
        read_esp_idf({"5.3": ESP_IDF["5.3"] | changed})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "esp_idf.5.3: expected an archive, or path and tools_path of one that is installed"),
        ({"path": "/opt/esp/idf"}, "esp_idf.5.3: expected an archive, or path and tools_path"),
        ({"archive": {**ARCHIVE, "urls": "ftp://x/y.zip"}}, "esp_idf.5.3: archive.urls: expected a URL of https"),
        ({"archive": {"urls": "https://x/y.zip"}}, "esp_idf.5.3: archive.sha256 is missing"),
        ({"archive": ARCHIVE, "directory": "../idf"}, "esp_idf.5.3: directory: expected a directory inside"),
    ],
)
def test_an_esp_idf_that_is_nowhere_or_elsewhere_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(BoardTypeError, match=reason):
        read_esp_idf({"5.3": {"version": "v5.3.1", **fields}})


def test_the_example_in_group_data_is_one() -> None:
    text = (Path(__file__).parents[2] / "group_data/builders.py").read_text()
    _, _, example = text.partition("# Gateways, built with ESP-IDF")
    lines = [line.removeprefix("#").removeprefix(" ") for line in example.splitlines()[1:]]
    data: dict[str, Any] = {}
    exec("\n".join(lines), data)
    found = read_gateway_types(data["gateway_types"], read_esp_idf(data["esp_idf"]))
    assert found["lyon"].site == "lyon" and found["lyon"].settings.can.tx_gpio == 7
