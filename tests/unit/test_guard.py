"""What brings a printer back when its transaction dies, read as systemd reads it: units, drop-in, ``ExecStopPost``."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fleetflash.agent import guard, patience, systemd
from fleetflash.agent.board import PORT_SECONDS
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image, Transaction

SERVICE = "klipper.service"


class Host:
    """A root of its own: the guard's files below ``tmp_path``, and systemctl and systemd-run that only remember."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.agent, self.outcome = root / "agent.pyz", root / "outcome.json"
        self.calls: list[str] = []
        self.transient: tuple[str, list[str], list[str]] = ("", [], [])
        self.active = True
        run, etc = root / "run/fleetflash", root / "etc/systemd/system"
        for name, path in {
            "RUN": run,
            "BUSY": run / "busy",
            "STOPPED": run / "stopped",
            "SETTLE_UNIT": etc / "fleetflash-settle.service",
            "SETTLE_LINK": etc / "multi-user.target.wants/fleetflash-settle.service",
        }.items():
            monkeypatch.setattr(guard, name, path)
        drop_in = root / "run/systemd/system"
        monkeypatch.setattr(guard, "_drop_in", lambda service: drop_in / f"{service}.d" / "50-fleetflash.conf")
        monkeypatch.setattr(systemd, "systemctl", self._systemctl)
        monkeypatch.setattr(systemd, "is_active", lambda unit: self.active)
        monkeypatch.setattr(systemd, "run_transient", self._run_transient)

    def _systemctl(self, *words: str, **_: object) -> str:
        self.calls.append(" ".join(words))
        return ""

    def _run_transient(self, unit: str, properties: list[str], command: list[str]) -> None:
        self.transient = (unit, properties, command)

    @property
    def drop_in(self) -> Path:
        return guard._drop_in(SERVICE)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())

    def stop_posts(self) -> list[str]:
        """The ``ExecStopPost`` lines of the transient unit, in their order."""
        return [line.partition("=")[2] for line in self.transient[1] if line.startswith("ExecStopPost=")]

    def die(self) -> list[str]:
        """Run what systemd runs after the unit's end, all but the settling itself; return what systemctl was told."""
        said, tools = self.root / "said", self.root / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
        (tools / "systemctl").chmod(0o755)
        said.write_text("")
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        for line in self.stop_posts()[1:]:
            subprocess.run(shlex.split(line.removeprefix("-")), env=environment, check=False)
        return said.read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def transaction(was_active: bool = True, restore_seconds: float = 200.0) -> Transaction:
    return Transaction("t-1", "me", [], SERVICE, "/s", was_active, was_active, "exact", restore_seconds)


def start(host: Host, **changes: bool) -> None:
    guard.start_guarded(transaction(**changes), host.agent, host.outcome)


# The transient unit


def test_unit_has_a_fixed_name_and_runs_the_transaction(host: Host) -> None:
    start(host)
    unit, properties, command = host.transient
    assert unit == "fleetflash.service"
    assert command == [sys.executable, "-B", str(host.agent), "transact", "t-1"]
    assert properties[:2] == ["Type=exec", "Description=fleetflash transaction t-1"]


def test_settling_comes_first_then_the_busy_flag_then_klipper_and_no_failure_skips_the_next(host: Host) -> None:
    """Tried on systemd 252: without the leading ``-``, a failing line keeps the ones after it from running."""
    start(host)
    posts = host.stop_posts()
    assert all(line.startswith("-/") for line in posts)
    assert posts[0] == f"-{sys.executable} -B {host.agent} settle t-1"
    assert posts[1] == f"-/bin/rm -f {guard.BUSY}"
    assert "systemctl --no-block start klipper.service" in posts[2]
    assert "start fleetflash-settle.service" in posts[3]


def test_restore_gets_the_time_that_the_plan_expects_several_times_over(host: Host) -> None:
    """systemd's default of 90 s would kill it."""
    start(host)
    assert "TimeoutStopSec=1060" in host.transient[1]
    guard.start_guarded(transaction(restore_seconds=1.0), host.agent, host.outcome)
    assert "TimeoutStopSec=300" in host.transient[1]


def test_restore_gets_the_time_in_which_a_board_whose_port_is_gone_is_waited_for(host: Host) -> None:
    image = Image("a", "0" * 64, 1, "v")
    board = BoardTransaction(
        *("b", "/dev/p", "/dev/d", "ch32v203c8t6", ["19:31"], 65536, "wch_isp", Entry("lines"), Firmware("klippy")),
        *(image, image),
    )
    guard.start_guarded(replace(transaction(), boards=[board, board]), host.agent, host.outcome)
    absent = patience.RESTORE_ATTEMPTS * (PORT_SECONDS + patience.RESTORE_PAUSE)
    assert f"TimeoutStopSec={1060 + 2 * absent:.0f}" in host.transient[1]


def test_klipper_that_the_transaction_stopped_is_started_when_the_agent_dies(host: Host) -> None:
    start(host)
    guard.hold()
    guard.mark_stopped()
    assert host.die() == ["--no-block start klipper.service"]
    assert not guard.BUSY.exists()


def test_klipper_that_somebody_else_has_stopped_is_left_alone(host: Host) -> None:
    start(host)
    assert host.die() == []


def test_klipper_that_was_stopped_before_is_never_started(host: Host) -> None:
    start(host, was_active=False)
    guard.mark_stopped()
    assert host.die() == []


def test_settling_that_died_too_is_tried_again_by_the_boot_unit(host: Host) -> None:
    start(host)
    guard.raise_guard(transaction(), host.agent)
    assert host.die() == ["--no-block start fleetflash-settle.service"]
    host.outcome.touch()
    assert host.die() == []


def test_dead_transaction_is_settled_under_the_same_guard(host: Host) -> None:
    guard.start_guarded(transaction(), host.agent, host.outcome, "settle")
    assert host.transient[2][-2:] == ["settle", "t-1"]
    assert host.stop_posts()[0].endswith("settle t-1")


# Raised and lowered


def test_guard_is_a_settle_unit_that_a_boot_starts_before_klipper_and_a_drop_in(host: Host) -> None:
    guard.raise_guard(transaction(), host.agent)
    unit = guard.SETTLE_UNIT.read_text().splitlines()
    assert f"Before={SERVICE}" in unit
    assert "Type=oneshot" in unit
    assert f"ExecStart={sys.executable} -B {host.agent} settle t-1" in unit
    assert f"ConditionPathExists={host.agent}" in unit
    assert "TimeoutStartSec=1060" in unit
    assert "Restart=on-failure" in unit and "StartLimitBurst=5" in unit
    assert guard.SETTLE_LINK.is_symlink() and guard.SETTLE_LINK.resolve() == guard.SETTLE_UNIT
    assert guard.SETTLE_LINK.parent.name == "multi-user.target.wants"
    assert host.drop_in.read_text().splitlines()[1:] == ["[Unit]", f"ConditionPathExists=!{guard.BUSY}"]
    assert guard.BUSY.exists()
    assert host.calls == ["daemon-reload"]


def test_settle_unit_is_one_that_systemd_understands(host: Host, tmp_path: Path) -> None:
    """Sections and keys only; each key once a section, and nothing that format left unfilled."""
    guard.raise_guard(transaction(), host.agent)
    section, seen = "", set()
    for line in guard.SETTLE_UNIT.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line
            continue
        key, separator, value = line.partition("=")
        assert separator and value and "{" not in value and (section, key) not in seen
        seen.add((section, key))
    assert {section for section, _ in seen} == {"[Unit]", "[Service]", "[Install]"}


def test_settle_unit_is_durable_before_systemd_hears_of_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(systemd, "systemctl", lambda *words, **_: order.append(words[0]))
    guard.raise_guard(transaction(), host.agent)
    assert order[-1] == "daemon-reload"
    assert any(name.startswith(".fleetflash-settle.service.") for name in order)
    assert "system" in order and "multi-user.target.wants" in order  # the directories of the unit and of its link


def test_raising_it_twice_changes_nothing(host: Host) -> None:
    guard.raise_guard(transaction(), host.agent)
    before = host.files()
    guard.raise_guard(transaction(), host.agent)
    assert host.files() == before


def test_lowered_guard_leaves_nothing_behind_and_tells_systemd(host: Host) -> None:
    guard.raise_guard(transaction(), host.agent)
    guard.mark_stopped()
    host.calls.clear()
    guard.lower_guard(transaction())
    assert host.files() == [] and not host.drop_in.parent.exists()
    assert host.calls == ["daemon-reload"]
    guard.lower_guard(transaction())
    assert host.calls == ["daemon-reload"]


def test_foreign_drop_in_of_the_service_stays(host: Host) -> None:
    guard.raise_guard(transaction(), host.agent)
    (host.drop_in.parent / "mine.conf").touch()
    guard.lower_guard(transaction())
    assert host.files() == ["mine.conf"]


@pytest.mark.parametrize("file", ["SETTLE_UNIT", "SETTLE_LINK", "drop_in", "BUSY"])
def test_guard_of_which_a_part_is_missing_is_lowered_all_the_same(host: Host, file: str) -> None:
    guard.raise_guard(transaction(), host.agent)
    (host.drop_in if file == "drop_in" else getattr(guard, file)).unlink()
    guard.lower_guard(transaction())
    assert host.files() == []


def test_klipper_that_did_not_come_back_is_still_started_by_the_guards_last_line(host: Host) -> None:
    """The mark of the stop is removed only once Klipper runs."""
    start(host)
    guard.mark_stopped()
    host.active = False
    guard.lower_guard(transaction())
    assert host.die() == ["--no-block start klipper.service"]


def test_mark_of_an_earlier_transaction_says_nothing_of_this_one(host: Host) -> None:
    guard.mark_stopped()
    guard.forget_stopped()
    guard.forget_stopped()
    start(host)
    assert host.die() == []
