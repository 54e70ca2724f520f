"""Kconfig drops what it does not like without a word; every such line is told, with its place in the menu.

ESP-IDF's own Kconfig library judges, in the project's own tree.
"""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import CompileError, ConfigurationError
from tests.gateway_project import GatewayProject


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GatewayProject:
    return GatewayProject(tmp_path_factory.mktemp("project"))


def refusal(project: GatewayProject, **changed: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        project.builder.prospect(project.gateway(**changed))
    assert "\n" not in str(error.value)
    return str(error.value)


#: What is asked for, and what the error says of it: wanted and resulting value, place in the menu, and reason.
MISTAKES: dict[str, tuple[bool | int | str, str]] = {
    # no such symbol
    "TINYBMS_CAN_VICTRON_TX_PIN": (
        7,
        "asked for 7, became nothing (there is no such symbol, but TINYBMS_CAN_VICTRON_TX_GPIO and ",
    ),
    # renamed, and renamed to its contrary
    "FLASHMODE_DIO": (True, "asked for y, became nothing (it is now called ESPTOOLPY_FLASHMODE_DIO)"),
    "WIFI_NVS_DISABLED": (True, "(it is now called ESP_WIFI_NVS_ENABLED, the other way round)"),
    # of another type
    "TINYBMS_CAN_KEEPALIVE_INTERVAL_MS": (
        "soon",
        'asked for "soon", became 1000 (a decimal number is wanted; in "TinyBMS Gateway" > "CAN" > "Keep-alive ',
    ),
    "TINYBMS_WIFI_STA_MAX_RETRY": (True, "asked for y, became 5 (a decimal number is wanted"),
    "ESP_WIFI_STATIC_RX_BUFFER_NUM": ("0x10", "asked for 0x10, became 10 (a decimal number is wanted"),
    "TINYBMS_CAN_LISTEN_ONLY": (5, "asked for 5, became n (True or False is wanted"),
    "TINYBMS_CAN_BATTERY_NAME": (12, 'asked for 12, became "LiFePO4" (a text is wanted, in quotes'),
    # would be taken, as 0x500
    "TINYBMS_CAN_KEEPALIVE_ID": (
        500,
        "asked for 500, became 500 (a hexadecimal number is wanted, as text with 0x; ",
    ),
    # out of range
    "TINYBMS_WIFI_AP_CHANNEL": (
        14,
        'asked for 14, became 1 (in "TinyBMS Gateway" > "Wi-Fi" > "Access point channel"; takes int from 1 to 13)',
    ),
    "TINYBMS_WIFI_AP_MAX_CLIENTS": (0, "asked for 0, became 4 ("),
    "PARTITION_TABLE_OFFSET": (
        "0x7000",
        'asked for 0x7000, became 0x8000 (in "Partition Table" > "Offset of partition table"; '
        "takes hex from 0x8000 to 0x10000)",
    ),
    # dropped by a dependency
    "TINYBMS_MQTT_BROKER_URI": (
        "mqtt://broker",
        'asked for "mqtt://broker", became nothing (in "TinyBMS Gateway" > "MQTT" > "MQTT client" > "Broker"; '
        "needs TINYBMS_MQTT)",
    ),
    # of another target
    "ESP_WIFI_FTM_ENABLE": (True, 'became n (in "Component config" > "Wi-Fi" > "WiFi FTM"; needs IDF_TARGET_ESP32S3)'),
    # without a prompt
    "TINYBMS_CAN_BUS_ID": ("0x307", "became 0x306 (in "),
    "IDF_TARGET_ESP32S3": (True, "(it can't be set, it follows from other symbols)"),
    # two of one choice, and none of one
    "ESPTOOLPY_FLASHSIZE_4MB": (True, "became n (in "),
    "ESPTOOLPY_FLASHSIZE_8MB": (True, ""),
    "ESPTOOLPY_FLASHFREQ_40M": (
        False,
        'asked for n, became y (in "Serial flasher config" > "Flash SPI speed" > "40 MHz"; '
        "it is the choice; ask for another one instead)",
    ),
}


@pytest.fixture(scope="module")
def told(project: GatewayProject) -> str:
    return refusal(project, settings={"kconfig": {symbol: value for symbol, (value, _) in MISTAKES.items()}})


@pytest.mark.parametrize("symbol", [symbol for symbol, (_, reason) in MISTAKES.items() if reason])
def test_a_line_that_kconfig_drops_is_told_with_its_place(told: str, symbol: str) -> None:
    lines = told.removeprefix("gateway type lyon: Kconfig does not accept what was asked for: ").split("; CONFIG_")
    [line] = [line for line in lines if line.removeprefix("CONFIG_").startswith(f"{symbol}: ")]
    assert MISTAKES[symbol][1] in line


def test_what_another_symbol_selects_can_not_be_off(project: GatewayProject) -> None:
    kconfig = {"TINYBMS_MQTT": True, "TINYBMS_MQTT_TLS": True, "TINYBMS_CRYPTO": False}
    assert 'asked for n, became y (in "TinyBMS Gateway" > "Encryption"; selected by TINYBMS_MQTT_TLS' in refusal(
        project, settings={"kconfig": kconfig}
    )


def test_what_the_site_asks_for_is_judged_too(project: GatewayProject) -> None:
    said = refusal(project, site="lyon", site_settings={"kconfig": {"TINYBMS_CAN_VICTRON_TX_GPIO": 47}})
    assert "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO: asked for 47, became 7" in said


def test_a_secret_that_is_dropped_stays_secret(project: GatewayProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "c4nary-mqtt-password")
    said = refusal(project, settings={"mqtt": {"password": {"env": "MQTT_PASSWORD"}}})
    wanted = 'CONFIG_TINYBMS_MQTT_PASSWORD: asked for "<secret TINYBMS_MQTT_PASSWORD>", became nothing (in '
    assert wanted in said and "needs TINYBMS_MQTT)" in said and "c4nary" not in said


def test_a_tree_that_can_not_be_read_is_told(project: GatewayProject) -> None:
    project.source.replace("main/Kconfig.projbuild", 'menu "TinyBMS Gateway"', 'menu "TinyBMS Gateway"\nnonsense here')
    commit = project.source.commit()
    with pytest.raises(CompileError, match=r"^gateway type lyon: idf\.py reconfigure failed: .*Kconfig\.projbuild:2"):
        project.builder.prospect(project.gateway(ref=commit))


def test_symbols_that_become_what_was_asked_for_pass(project: GatewayProject, tmp_path: Path) -> None:
    kconfig = {
        "TINYBMS_CAN_KEEPALIVE_ID": "0x305",
        "TINYBMS_MQTT": True,
        "TINYBMS_MQTT_BROKER_URI": "mqtt://broker",
        "ESP_WIFI_NVS_ENABLED": False,
        "ESP_WIFI_FTM_ENABLE": False,
        "ESPTOOLPY_FLASHFREQ_80M": True,
    }
    prospect = project.builder.prospect(project.gateway(settings={"kconfig": kconfig}))
    assert "CONFIG_TINYBMS_CAN_KEEPALIVE_ID=0x305\n" in prospect.prepared.configuration
    assert not prospect.is_built
