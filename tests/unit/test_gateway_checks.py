"""All checks of a gateway become rows as of ``fleetflash verify``; captures come from a log or over SSH."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from loopback_ssh import LoopbackSshd, needs_sshd

from fleetflash.boards import Board, read_host
from fleetflash.functional import http_client
from fleetflash.functional.can_capture import Capture, command, read_capture, take
from fleetflash.functional.description import CanCheck
from fleetflash.functional.errors import AskError, CanLogError
from fleetflash.functional.gateway import check_gateway
from fleetflash.link import ssh
from fleetflash.link.errors import LinkError, UnreachableError
from fleetflash.verification.check import Check, Result, exit_code
from tests.command_lines import command_lines
from tests.unit.candump_logs import bus
from tests.unit.web_gateway import WebGateway

PERIODS = {name: {"period": 0.5} for name in ("0x351", "0x355", "0x356")}


def board(checks: Any, **fields: Any) -> Board:
    described = {"port": "/dev/x", "chip": "esp32", "programmer": "esptool", "firmware": "gateway", **fields}
    (found,) = read_host("desk", {"klipper_service": None, "boards": {"gw": {**described, "checks": checks}}}).boards
    return found


def nobody() -> paramiko.Transport:
    raise LinkError("desk: not connected through SSH")


def rows(checks: Any, **fields: Any) -> list[Check]:
    return check_gateway("desk", board(checks, **fields), nobody)


def test_everything_as_expected_is_ok_in_every_row(tmp_path: Path) -> None:
    log = tmp_path / "can.log"
    log.write_bytes(b"\n".join(bus()))
    with WebGateway(api=(200, b'{"version": "v1"}')) as gateway:
        http = {"api": {"url": f"http://{gateway.address}/api", "fields": {"version": "{version}"}}}
        found = rows({"http": http, "can": {"log": str(log), "messages": PERIODS}}, firmware_version="v1")
    assert exit_code(found) == 0
    assert [row.name for row in found[:3]] == ["http api", "can 0x351", "can 0x351 ChargeVoltageLimit"]
    assert (found[0].host, found[0].board, found[0].expected) == ("desk", "gw", "200, version = v1")
    assert found[0].found == "200, version = v1"


def test_another_answer_is_drift_and_no_answer_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSE", 0.05)
    with WebGateway(api=(500, b"")) as gateway:
        (found,) = rows({"http": {"api": {"url": f"http://{gateway.address}/api", "within": 0.2}}})
    assert (found.found, found.result, exit_code([found])) == ("500", Result.DRIFT, 2)
    (gone,) = rows({"http": {"api": {"url": f"http://{gateway.address}/api", "within": 0.2}}})
    assert (gone.found, gone.result, exit_code([gone])) == ("none", Result.FAILED, 3)
    assert "does not answer" in gone.detail


def test_a_mistake_of_the_inventory_is_one_row_that_failed() -> None:
    (found,) = rows({"http": {"web": {"url": "http://{address}/"}}})
    assert found.result is Result.FAILED and "needs the board's address" in found.detail


def test_a_check_that_can_not_be_done_does_not_hide_the_others(tmp_path: Path) -> None:
    log = tmp_path / "can.log"
    log.write_bytes(b"\n".join(bus()))
    found = rows({"http": {"web": {"url": "http://127.0.0.1:1/", "within": 0.1}}, "can": {"log": str(log)}})
    assert (found[0].result, found[1].result) == (Result.FAILED, Result.OK)


def test_a_secret_is_used_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_LOGIN", "no other password")
    login = {"user": "me", "auth": {"env": "GATEWAY_LOGIN"}, "within": 0.1}
    with WebGateway(api=(200, b'{"echo": "no other password"}')) as gateway, command_lines() as seen:
        url = f"http://{gateway.address}/api"
        found = rows({"http": {"api": {"url": url, "fields": {"echo": "x"}, **login}}})
        assert gateway.asked[0][1].startswith("Basic ")
    assert seen and not [line for line in seen if b"no other password" in line]
    assert "no other password" not in str(found) and "<secret checks.http.api.auth>" in found[0].found
    monkeypatch.delenv("GATEWAY_LOGIN")
    (unset,) = rows({"http": {"api": {"url": url, **login}}})
    assert unset.result is Result.FAILED and "GATEWAY_LOGIN is not set" in unset.detail


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"\x7fELF", "line 1 is"), (b"".join(bus()), "line 1 is")],
)
def test_a_log_that_can_not_be_used_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    log = tmp_path / "can.log"
    if content is not None:
        log.write_bytes(content)
    (found,) = rows({"can": {"log": str(log)}})
    assert found.result is Result.FAILED and "can.log: " in found.detail and said in found.detail


def test_a_host_without_connection_fails_only_the_capture() -> None:
    (found,) = rows({"can": {"interface": "can0"}})
    assert (found.name, found.result, found.detail) == ("can", Result.FAILED, "desk: not connected through SSH")


def test_a_capture_is_what_lies_between_two_looks_at_the_hosts_clock() -> None:
    found = read_capture(b"100.25\n(101.0) can0 1#00\n112.5\n", "can0")
    assert found == Capture("can0", [b"(101.0) can0 1#00"], 100.25, 112.5)
    for broken in (b"", b"100.25\n", b"Welcome!\n(1.0) can0 1#00\n2.0\n", b"100.25\n(101.0) can0 1#00\n"):
        with pytest.raises(CanLogError, match="no capture"):
            read_capture(broken, "can0")


CANDUMP = """#!/bin/sh
# Writes what is in frames.log and waits to be interrupted, as candump does.
test "$1 $2" = "-L can0" || {{ echo "$2: no such interface" >&2; exit 1; }}
trap 'exit 0' INT
cat {log}
while :; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    directory = tmp_path_factory.mktemp("bench")
    programs = directory / "programs"
    programs.mkdir()
    log = directory / "frames.log"
    log.write_bytes(b"\n".join(bus()) + b"\n")
    candump = programs / "candump"
    candump.write_text(CANDUMP.format(log=log))
    candump.chmod(0o755)
    with LoopbackSshd(directory, f"SetEnv PATH={programs}:{os.environ['PATH']}") as sshd:
        yield sshd


def capture_check(**fields: Any) -> CanCheck:
    return CanCheck.model_validate({"interface": "can0", "seconds": 1, **fields})


@needs_sshd
def test_a_capture_over_the_connection_that_is_there(bench: LoopbackSshd) -> None:
    transport = bench.transport()
    found = take(capture_check(), lambda: transport)
    transport.close()
    assert found.lines == bus() and found.begin is not None and found.end is not None
    assert found.end - found.begin >= 1.0


@needs_sshd
def test_a_capture_of_another_host_by_its_ssh_name(bench: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.CONFIG_VARIABLE, str(bench.config))
    assert take(capture_check(host="printer"), nobody).lines == bus()


@needs_sshd
def test_an_interface_that_is_not_there_is_an_error_with_candumps_words(bench: LoopbackSshd) -> None:
    transport = bench.transport()
    with pytest.raises(AskError, match=r"can7: candump ended with 'can7: no such interface'; is the interface there"):
        take(capture_check(interface="can7"), lambda: transport)
    transport.close()


@needs_sshd
def test_a_host_without_candump_is_told_what_to_install(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path) as sshd:
        transport = sshd.transport()
        with pytest.raises(AskError, match="install can-utils"):
            take(capture_check(), lambda: transport)
        transport.close()


def test_a_host_that_is_not_there_is_an_error_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("Host bench\n  HostName 127.0.0.1\n  Port 1\n")
    monkeypatch.setenv(ssh.CONFIG_VARIABLE, str(config))
    with pytest.raises(AskError, match="no SSH connection"):
        take(capture_check(host="bench"), nobody)
    with pytest.raises(UnreachableError):
        ssh.connect("bench")


def test_the_command_is_one_that_every_login_shell_understands() -> None:
    assert command("can0", 0.2) == ("sh -c 'date +%s.%N; timeout -s INT 1 candump -L can0; s=$?; date +%s.%N; exit $s'")
