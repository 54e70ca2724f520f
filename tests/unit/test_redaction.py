"""Secrets do not survive redaction: those that the inventory marks, however written, and what looks like one."""

import base64
import json
import logging
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from fleetflash.incident.redaction import MARK, RedactingFilter, Redactor, of_run
from fleetflash.incident.secrets import secret_values

CANARY = 'Ca"nary/pä$ß+w ö&rd'


@pytest.mark.parametrize(
    "data",
    [
        {"ssh_password": CANARY},
        {"wifi": {"ssid": "shop", "passphrase": CANARY}},
        {"mqtt_token": [CANARY]},
        {"moonraker_api_key": CANARY.encode()},
        {"ota_key": CANARY},
        {"wifi": {"wifi_pass": CANARY}},
        {"mqtt": {"pass": CANARY, "bypass": "off"}},
        {"secrets": {"anything": {"deep": CANARY}}},
        {"secret_keys": ["ssid"], "wifi": {"ssid": CANARY}},
        {"secret_keys": "ssid", "ssid": CANARY},
        {"boards": {"bmcu": {"options": {"psk": CANARY}}}},
    ],
)
def test_value_is_secret_by_its_name_or_because_the_inventory_says_so(data: dict[str, Any]) -> None:
    assert secret_values({"ssh_user": "pi", "attended": True, **data}) == {CANARY}


def test_password_of_a_url_is_secret_and_the_rest_of_the_data_is_not() -> None:
    data = {"klipper_repository": "https://me:hunter2@git.example/k.git", "ssh_key": "~/.ssh/id", "firmware": "v1"}
    assert secret_values(data) == {"hunter2"}


def test_number_is_secret_under_such_a_name_and_a_switch_is_not() -> None:
    assert secret_values({"pin_token": 4711, "use_sudo_password": True, "secrets": {"empty": " "}}) == {"4711"}


@pytest.mark.parametrize(
    "written",
    [
        CANARY,
        json.dumps({"x": CANARY}),
        json.dumps({"x": CANARY}, ensure_ascii=False),
        repr([CANARY]),
        f"https://broker/?p={quote(CANARY, safe='')}",
        base64.b64encode(CANARY.encode()).decode(),
        CANARY.encode().hex(),
    ],
)
def test_known_secret_is_found_however_it_is_written(written: str) -> None:
    clean = Redactor([CANARY]).text(f"before {written} after")
    assert MARK in clean and "nary" not in clean and CANARY.encode().hex()[:16] not in clean
    assert clean.startswith("before ") and clean.endswith(" after")


def test_longer_secret_goes_before_one_that_it_begins_with() -> None:
    assert Redactor(["open", "opensesame"]).text("opensesame open") == f"{MARK} {MARK}"


def test_short_secret_goes_only_where_it_stands_alone() -> None:
    assert Redactor(["pi"]).text("user pi prints at piers") == f"user {MARK} prints at piers"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("fetch https://me:hunter2@git.example/k.git failed", f"fetch https://{MARK}@git.example/k.git failed"),
        ("https://ghp_abc@github.com/x", f"https://{MARK}@github.com/x"),
        ("mqtt://gate:pw@10.0.0.1:1883", f"mqtt://{MARK}@10.0.0.1:1883"),
        ("ssh://git@host/x and fleetflash://pi@host/dev/ttyUSB0", None),
        ("GET /server?token=abc&x=1", f"GET /server?token={MARK}&x=1"),
        ("wifi_password: my secret place", f"wifi_password: {MARK}"),
        ('CONFIG_TINYBMS_WIFI_STA_PASSWORD="my place" # x', f"CONFIG_TINYBMS_WIFI_STA_PASSWORD={MARK} # x"),
        ("{'api_key': 'abc', 'port': 7125}", f"{{'api_key': {MARK}, 'port': 7125}}"),
        ('{"psk":"a\\"b","ssid":"shop"}', f'{{"psk":{MARK},"ssid":"shop"}}'),
        ("options: found {'password': 'hunter2 and mo", f"options: found {{'password': {MARK}"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {MARK}"),
        ("jwt eyJhbGciOi.eyJzdWIi.SflKxw done", f"jwt {MARK} done"),
        ('CONFIG_MQTT_PASS="hunter2"', f"CONFIG_MQTT_PASS={MARK}"),
        ("WIFI_PWD=hunter2", f"WIFI_PWD={MARK}"),
        ("PWD=/home/pi bypass=on passive: yes, passed: 3", None),
        ("sudo: a password is required", None),
        ("verify at 0x3a98: the flash differs", None),
        (f"sha256 {'ab' * 32}", None),
    ],
)
def test_what_looks_like_a_secret_goes_and_nothing_else(text: str, clean: str | None) -> None:
    assert Redactor().text(text) == (text if clean is None else clean)


def test_private_key_goes_with_all_its_lines_even_when_its_end_is_cut_off() -> None:
    lines = ["a", "-----BEGIN OPENSSH PRIVATE KEY-----", "b3BlbnNzaC1r", "ZXktdjE"]
    assert Redactor().lines(lines) == ["a", MARK]
    assert Redactor().lines([*lines, "-----END OPENSSH PRIVATE KEY-----", "z"]) == ["a", MARK, "z"]


def test_json_value_stays_one_and_keeps_its_shape_and_its_numbers() -> None:
    value = {"token": "abc", "n": 4711, "list": ["x 4711"], "secrets": {"a": "b"}, "ok": True, "none": None}
    clean = Redactor(["4711"]).value(value)
    assert clean == {"token": MARK, "n": 4711, "list": [f"x {MARK}"], "secrets": {"a": "b"}, "ok": True, "none": None}


def test_log_record_is_clean_with_its_arguments_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.Logger("x")
    logger.addHandler(caplog.handler)
    logger.addFilter(RedactingFilter(Redactor([CANARY])))
    logger.error("it is %s", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.error("broken", exc_info=sys.exc_info())
    assert caplog.text.count(MARK) == 2 and "nary" not in caplog.text and "ValueError" in caplog.text


def test_run_knows_the_secrets_of_all_its_hosts_and_its_log_is_without_them(caplog: pytest.LogCaptureFixture) -> None:
    hosts = [SimpleNamespace(data=SimpleNamespace(dict=lambda n=n: {"token": f"canary-{n}"})) for n in (1, 2)]
    state = SimpleNamespace(inventory=hosts)
    before = list(logging.getLogger("pyinfra").filters)
    try:
        assert of_run(state).text("canary-1 canary-2") == f"{MARK} {MARK}"
        logging.getLogger("pyinfra").error("canary-2")
        assert MARK in caplog.text and "canary-2" not in caplog.text
        assert of_run(state) is of_run(state)
    finally:
        logging.getLogger("pyinfra").filters[:] = before
