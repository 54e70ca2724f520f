"""A gateway's web page and API are asked over a real connection, and judged by status, text and fields."""

import base64
import json
import socket
import threading
from typing import Any

import pytest

from fleetflash.functional import http_client
from fleetflash.functional.description import HttpCheck
from fleetflash.functional.errors import AskError
from fleetflash.functional.http_client import ask_until
from fleetflash.functional.verdict import Verdict
from fleetflash.secret import Secret
from tests.unit.web_gateway import WebGateway

STATUS = json.dumps({"version": "v1.2.0", "battery": {"soc": 81.5, "online": True}}).encode()
FIELDS = {"version": "v1.2.0", "battery.soc": {"min": 0, "max": 100}, "battery.online": True}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSE", 0.05)


def ask(gateway: WebGateway | str, path: str = "status", secret: Secret | None = None, **check: Any) -> Verdict:
    address = gateway if isinstance(gateway, str) else gateway.address
    described = {"url": f"http://{address}/{path}", "within": 1.0, **check}
    return ask_until(HttpCheck.model_validate(described), secret)


def test_status_and_fields_as_expected() -> None:
    with WebGateway(status=(200, STATUS)) as gateway:
        verdict = ask(gateway, fields=FIELDS)
    assert verdict == Verdict("200, version = v1.2.0, battery.soc = 81.5, battery.online = true")


def test_the_web_page_holds_its_text() -> None:
    with WebGateway(ui=(200, b"<title>TinyBMS</title>")) as gateway:
        assert not ask(gateway, "ui", contains="TinyBMS").problem
        assert "is not in" in ask(gateway, "ui", contains="Victron").problem


@pytest.mark.parametrize(
    ("page", "check", "said"),
    [
        ((500, STATUS), {"fields": FIELDS}, "answered with status 500"),
        ((200, STATUS.replace(b"v1.2.0", b"v1.1.0")), {"fields": FIELDS}, "version = v1.1.0"),
        ((200, STATUS.replace(b"81.5", b"181.5")), {"fields": FIELDS}, "battery.soc = 181.5"),
        ((200, STATUS.replace(b"true", b"1")), {"fields": FIELDS}, "battery.online = 1"),
        ((200, b"{}"), {"fields": FIELDS}, "no field version"),
        ((200, b"<html>"), {"fields": FIELDS}, "no JSON: '<html>'"),
    ],
)
def test_another_answer_is_a_problem_that_says_what_was_found(page: Any, check: dict[str, Any], said: str) -> None:
    with WebGateway(status=page) as gateway:
        assert said in ask(gateway, **check).problem


def test_a_refusal_can_be_what_is_expected() -> None:
    with WebGateway(status=(401, b"")) as gateway:
        assert not ask(gateway, status=401).problem


def test_a_gateway_that_is_still_starting_is_asked_again() -> None:
    with WebGateway(status=[(503, b""), (200, b"{}"), (200, STATUS)]) as gateway:
        assert not ask(gateway, fields=FIELDS, within=20.0).problem
        assert len(gateway.asked) == 3


def test_a_redirection_is_not_followed_and_credentials_go_nowhere_else() -> None:
    with WebGateway(other=(200, b"")) as other:
        elsewhere = {"Location": f"http://{other.address}/other"}
        with WebGateway(status=(302, b"", elsewhere)) as gateway:
            secret = Secret("s", "correct horse")
            verdict = ask(gateway, user="me", auth={"env": "X"}, secret=secret)
    assert verdict.problem.endswith("status 302") and other.asked == []


def test_credentials_are_sent_as_the_standards_say() -> None:
    secret = Secret("s", "correct horse")
    with WebGateway(status=(200, b"")) as gateway:
        ask(gateway, user="me", auth={"env": "X"}, secret=secret)
        ask(gateway, auth={"env": "X"}, secret=secret)
        ask(gateway)
    basic = base64.b64encode(b"me:correct horse").decode()
    assert [header for _, header in gateway.asked] == [f"Basic {basic}", "Bearer correct horse", ""]


def test_proxies_of_the_environment_are_not_for_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with WebGateway(status=(200, b"")) as gateway:
        assert not ask(gateway).problem


def test_nobody_there_is_no_verdict_but_an_error_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(AskError, match=rf"http://{address}/status does not answer: Connection refused"):
        ask(address)


def serve_once(answer: bytes) -> str:
    """Answer every connection with these bytes and never close it."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        kept = []
        while True:
            connection, _ = server.accept()
            kept.append(connection)
            connection.recv(1 << 16)
            connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_whoever_says_nothing_nonsense_or_half_of_it_is_an_error(answer: bytes) -> None:
    with pytest.raises(AskError):
        ask(serve_once(answer))


def test_a_page_without_end_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MOST", 1000)
    with WebGateway(status=(200, b'"' + b"x" * 5000)) as gateway:
        assert "more than 1000 bytes" in ask(gateway, fields={"a": 1}).problem
        assert not ask(gateway, contains="xxx").problem


def test_a_certificate_file_that_is_none_is_named() -> None:
    with pytest.raises(AskError, match=r"none\.pem: No such file"):
        ask("127.0.0.1:1", ca="none.pem")
