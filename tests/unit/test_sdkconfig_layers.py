"""sdkconfig.defaults as code: rendered per gateway and site, and without secrets until they are written."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import ConfigurationError
from fleetflash.build.idf.configuration import overridden, without_secrets
from fleetflash.build.idf.esp_idf import read_esp_idf
from fleetflash.build.idf.gateway_type import GatewayType, read_gateway_types
from fleetflash.build.idf.layers import Layer, asked, render_layers
from fleetflash.build.kconfig import Change
from fleetflash.secret import Secret
from tests.unit.test_gateway_types import ESP_IDF, fields

TEMPLATES = Path(__file__).parents[2] / "templates"


def gateway(**changed: Any) -> GatewayType:
    return read_gateway_types({"lyon": fields(**changed)}, read_esp_idf(ESP_IDF))["lyon"]


def render(templates: Path = TEMPLATES, **changed: Any) -> list[Layer]:
    return render_layers(gateway(**changed), templates)


def test_settings_become_lines_and_what_is_left_out_becomes_none() -> None:
    [layer] = render(
        settings={
            "can": {"tx_gpio": 17, "keepalive_timeout_ms": 10000},
            "metadata": {"manufacturer": 'Ene"paq'},
            "access_point": {"max_clients": 2},
            "flasher": {"mode": "dio", "frequency": "80m", "size": "8MB"},
            "kconfig": {"TINYBMS_MQTT": True, "BT_ENABLED": False, "PARTITION_TABLE_OFFSET": "0x9000"},
        }
    )
    assert layer.name == "sdkconfig.defaults.fleetflash"
    assert layer.text.splitlines() == [
        "# lyon (esp32): made by fleetflash, never edited.",
        "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO=17",
        "CONFIG_TINYBMS_CAN_KEEPALIVE_TIMEOUT_MS=10000",
        'CONFIG_TINYBMS_CAN_MANUFACTURER="Ene\\"paq"',
        "CONFIG_TINYBMS_WIFI_AP_MAX_CLIENTS=2",
        "CONFIG_ESPTOOLPY_FLASHMODE_DIO=y",
        "CONFIG_ESPTOOLPY_FLASHFREQ_80M=y",
        "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y",
        "CONFIG_TINYBMS_MQTT=y",
        "# CONFIG_BT_ENABLED is not set",
        "CONFIG_PARTITION_TABLE_OFFSET=0x9000",
    ]


def test_the_layer_of_a_site_wins() -> None:
    layers = render(
        site="lyon", settings={"access_point": {"channel": 1}}, site_settings={"access_point": {"channel": 6}}
    )
    assert [layer.name for layer in layers] == ["sdkconfig.defaults.fleetflash", "sdkconfig.defaults.lyon"]
    assert asked(layer.text for layer in layers) == {"TINYBMS_WIFI_AP_CHANNEL": "6"}


def test_a_secret_stands_in_no_layer_until_it_is_written_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIFI", 'c4nary "pass\\word')
    [layer] = render(settings={"station": {"password": {"env": "WIFI"}}})
    assert 'CONFIG_TINYBMS_WIFI_STA_PASSWORD="<secret TINYBMS_WIFI_STA_PASSWORD>"' in layer.text
    assert "c4nary" not in repr(layer)
    path = layer.write(tmp_path, layer.read_secrets())
    assert 'CONFIG_TINYBMS_WIFI_STA_PASSWORD="c4nary \\"pass\\\\word"' in path.read_text().splitlines()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kconfig": {"TINYBMS_MQTT_PASSWORD": "c4nary-open"}}, "CONFIG_TINYBMS_MQTT_PASSWORD is a secret by its name"),
        ({"kconfig": {"OTA_API_KEY": "c4nary-open"}}, "CONFIG_OTA_API_KEY is a secret by its name"),
        ({"kconfig": {"OTA_KEY": "c4nary-open"}}, "CONFIG_OTA_KEY is a secret by its name"),
        ({"kconfig": {"MQTT_PASS": "c4nary-open"}}, "CONFIG_MQTT_PASS is a secret by its name"),
        ({"kconfig": {"WIFI_PWD": "c4nary-open"}}, "CONFIG_WIFI_PWD is a secret by its name"),
        ({"kconfig": {"CONFIG_BT_ENABLED": True}}, "CONFIG_BT_ENABLED: write it without CONFIG_"),
        ({"kconfig": {"BT ENABLED": True}}, "is no name of a symbol"),
        ({"kconfig": {"X": "two\nlines"}}, "expected True, False, a number or printable text"),
        (
            {"access_point": {"channel": 1}, "kconfig": {"TINYBMS_WIFI_AP_CHANNEL": 6}},
            "CONFIG_TINYBMS_WIFI_AP_CHANNEL is asked for twice, as 1 and as 6",
        ),
        (
            {"mqtt": {"password": {"env": "A"}}, "kconfig": {"TINYBMS_MQTT_PASSWORD": {"env": "B"}}},
            "asked for twice, from environment variable A and from environment variable B",
        ),
    ],
)
def test_what_can_be_no_layer_is_refused_before_anything_is_fetched(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as error:
        render(settings=settings)
    assert "c4nary" not in str(error.value)


def test_a_template_may_be_anothers_and_its_mistakes_are_told(tmp_path: Path) -> None:
    shutil.copy(TEMPLATES / "sdkconfig.defaults.j2", tmp_path)
    (tmp_path / "mine.j2").write_text("{{ 'MY_GPIO' | kconfig(settings.can.tx_gpio) }}\n")
    [layer] = render(tmp_path, template="mine.j2", settings={"can": {"tx_gpio": 3}})
    assert layer.text == "CONFIG_MY_GPIO=3\n"
    with pytest.raises(ConfigurationError, match=r"there is no template .*none\.j2"):
        render(tmp_path, template="none.j2")
    (tmp_path / "mine.j2").write_text("{% if %}")
    with pytest.raises(ConfigurationError, match=r"template mine\.j2, line 1"):
        render(tmp_path, template="mine.j2")
    (tmp_path / "mine.j2").write_text('CONFIG_WIFI_PASSWORD="c4nary-in-template"\n')
    with pytest.raises(ConfigurationError, match="is a secret by its name") as error:
        render(tmp_path, template="mine.j2")
    assert "c4nary" not in str(error.value)


def test_a_configuration_is_kept_without_secrets_wherever_they_went() -> None:
    secret = Secret("WIFI_PASSWORD", "c4nary-wifi")
    text = 'CONFIG_WIFI_PASSWORD="c4nary-wifi"\nCONFIG_OLD_NAME="c4nary-wifi"\nCONFIG_URL="x?p=c4nary-wifi"\n'
    assert without_secrets(text, [secret]) == (
        'CONFIG_WIFI_PASSWORD="<secret WIFI_PASSWORD>"\nCONFIG_OLD_NAME="<secret WIFI_PASSWORD>"\n'
        'CONFIG_URL="x?p=<secret WIFI_PASSWORD>"\n'
    )


def test_a_former_configuration_is_compared_and_kept_without_the_password_of_then(tmp_path: Path) -> None:
    former = tmp_path / "sdkconfig"
    assert overridden(former, "CONFIG_A=1\n", []) == ("", ())
    former.write_text('CONFIG_A=7\nCONFIG_B=y\nCONFIG_GONE=y\nCONFIG_WIFI_PASSWORD="c4nary-of-then"\n')
    effective = 'CONFIG_A=1\nCONFIG_B=y\nCONFIG_NEW=y\nCONFIG_WIFI_PASSWORD="<secret WIFI_PASSWORD>"\n'
    text, stale = overridden(former, effective, [Secret("WIFI_PASSWORD", "c4nary-of-now")])
    assert stale == (Change("A", "1", "7"),)
    assert "CONFIG_GONE=y" in text and "c4nary" not in text
    former.write_text("<<<<<<< HEAD\n")
    with pytest.raises(ConfigurationError, match="the source's sdkconfig: line 1 is '<<<<<<< HEAD'"):
        overridden(former, effective, [])
