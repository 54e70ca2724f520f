"""A process of the host is stopped, its program replaced in one step, and started again, whatever comes between."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import disk, systemd
from fleetflash.agent.port import PortError
from fleetflash.agent.process_port import NoPort
from fleetflash.agent.protocols import linux_process
from fleetflash.agent.protocols.errors import ProtocolError, RefusedError, VerifyError
from fleetflash.agent.protocols.linux_process import LinuxProcessProgrammer
from fleetflash.agent.protocols.programmer import Found, Target
from fleetflash.agent.schema import Entry

HEADER = Path(sys.executable).read_bytes()[:64]
OLD, NEW = HEADER + b"old", HEADER + b"new program"
UNIT = "host-mcu.service"
ENTRY = Entry("none")


def ignore(done: int, total: int) -> None: ...


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError("nobody is asked")


class Systemd:
    """One unit; ``calls`` are what was done to it."""

    def __init__(self) -> None:
        self.loaded, self.active = "loaded", True
        self.calls: list[str] = []
        self.refuses = ""

    def show(self, unit: str, properties: Any) -> dict[str, str]:
        assert unit == UNIT
        return {"LoadState": self.loaded, "ActiveState": "active" if self.active else "inactive"}

    def stop(self, unit: str) -> None:
        self._do("stop", unit, False)

    def start(self, unit: str, wait: bool = True) -> None:
        self._do("start", unit, True)

    def _do(self, what: str, unit: str, active: bool) -> None:
        if self.refuses == what:
            raise systemd.SystemdError(f"systemctl {what} {unit}: refused")
        self.calls.append(what)
        self.active = active


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd()
    for name in ("show", "stop", "start"):
        monkeypatch.setattr(systemd, name, getattr(found, name))
    monkeypatch.setattr(linux_process, "RUN", tmp_path / "run")
    yield found


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "bin/klipper_mcu"
    disk.write_file(path, OLD, 0o750)
    return path


def programmer(binary: Path) -> LinuxProcessProgrammer:
    port = NoPort("/tmp/klipper_host_mcu")
    target = Target(options={"unit": UNIT, "binary": str(binary)})
    return LinuxProcessProgrammer(port, target, lambda: port)


def test_program_is_read_replaced_and_runs_again(unit: Systemd, binary: Path) -> None:
    board = programmer(binary)
    board.enter(ENTRY, nobody)
    assert not unit.active and board.probe() == Found("linux", "")
    assert board.read(ignore) == OLD
    board.write(NEW, ignore)
    board.verify(NEW, ignore)
    board.reset()
    assert binary.read_bytes() == NEW and stat.S_IMODE(binary.stat().st_mode) == 0o750
    assert unit.calls == ["stop", "start"] and sorted(path.name for path in binary.parent.iterdir()) == ["klipper_mcu"]


def test_running_program_is_never_written_over_but_replaced(unit: Systemd, binary: Path) -> None:
    """It is mapped into memory where it runs, and half of it must never be what a boot finds."""
    with binary.open("rb") as running:
        programmer(binary).write(NEW, ignore)
        assert running.read() == OLD


def test_program_that_is_not_there_yet_is_installed_executable(unit: Systemd, binary: Path) -> None:
    binary.unlink()
    board = programmer(binary)
    assert board.read(ignore) == b""
    board.write(NEW, ignore)
    board.verify(NEW, ignore)
    assert stat.S_IMODE(binary.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "image", [b"", b"#!/bin/sh\n", bytes(64), NEW[:18] + bytes([NEW[18] ^ 1]) + NEW[19:], NEW[:4] + b"\7" + NEW[5:]]
)
def test_program_for_another_machine_is_refused_and_the_old_one_stays(
    unit: Systemd, binary: Path, image: bytes
) -> None:
    with pytest.raises(RefusedError, match=r"no program for this machine.*is as it was"):
        programmer(binary).write(image, ignore)
    assert binary.read_bytes() == OLD


def test_file_that_is_not_the_image_or_can_not_be_run_fails_verify(unit: Systemd, binary: Path) -> None:
    board = programmer(binary)
    with pytest.raises(VerifyError, match="expected"):
        board.verify(NEW, ignore)
    board.verify(OLD, ignore)
    binary.unlink()
    with pytest.raises(VerifyError, match="sha256 none"):
        board.verify(OLD, ignore)


def test_file_that_can_not_be_executed_fails_verify(unit: Systemd, binary: Path) -> None:
    binary.chmod(0o640)
    with pytest.raises(VerifyError):
        programmer(binary).verify(OLD, ignore)


def test_agent_that_died_leaves_a_service_that_the_next_one_starts(unit: Systemd, binary: Path) -> None:
    programmer(binary).enter(ENTRY, nobody)
    programmer(binary).leave()
    assert unit.calls == ["stop", "start"] and unit.active
    programmer(binary).leave()
    assert unit.calls == ["stop", "start"]


def test_service_that_was_stopped_is_not_started_by_leaving(unit: Systemd, binary: Path) -> None:
    unit.active = False
    board = programmer(binary)
    board.enter(ENTRY, nobody)
    board.leave()
    assert unit.calls == []


def test_service_that_is_stopped_again_stays_marked_until_it_runs(unit: Systemd, binary: Path) -> None:
    """A settle enters once more where the transaction had stopped the service already."""
    programmer(binary).enter(ENTRY, nobody)
    programmer(binary).enter(ENTRY, nobody)
    unit.refuses = "start"
    with pytest.raises(ProtocolError, match="systemctl start"):
        programmer(binary).leave()
    unit.refuses = ""
    programmer(binary).leave()
    assert unit.active


def test_unit_that_does_not_exist_or_resists_is_an_error_with_what_to_do(unit: Systemd, binary: Path) -> None:
    unit.refuses = "stop"
    with pytest.raises(ProtocolError, match="/tmp/klipper_host_mcu: systemctl stop"):
        programmer(binary).enter(ENTRY, nobody)
    unit.loaded = "not-found"
    with pytest.raises(ProtocolError, match=f"the host has no {UNIT}; name its unit in options"):
        programmer(binary).enter(ENTRY, nobody)


def test_nothing_can_be_said_through_a_port_that_is_none(binary: Path) -> None:
    port = NoPort("/tmp/klipper_host_mcu")
    with pytest.raises(PortError, match="no port to write to"):
        port.write(b"x")
    with pytest.raises(PortError, match="no port to read from"):
        port.read(1, 1.0)
    with pytest.raises(ProtocolError, match="no read protection"):
        programmer(binary).unprotect(ENTRY, nobody)
    assert os.access(str(binary), os.X_OK)
