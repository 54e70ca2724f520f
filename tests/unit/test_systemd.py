"""systemctl's answers are read as they are, and whatever it refuses is one typed error that says what was asked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetflash.agent import systemd
from fleetflash.agent.systemd import SystemdError

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a shell script in the place of systemctl and systemd-run; it logs its arguments first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script: str) -> None:
        for name in ("systemctl", "systemd-run"):
            (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/log\n{script}\n')
            (tmp_path / name).chmod(0o755)

    return write


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_properties_are_read_line_by_line(install: Install) -> None:
    install("echo ActiveState=active; echo ExecStart='{ path=/bin/x }'; echo; echo MainPID=7")
    found = systemd.show("klipper.service", ["ActiveState", "MainPID"])
    assert found == {"ActiveState": "active", "ExecStart": "{ path=/bin/x }", "MainPID": "7"}


def test_several_units_are_asked_for_at_once_and_told_apart_by_their_order(install: Install, tmp_path: Path) -> None:
    install("echo ActiveState=active; echo MainPID=7; echo; echo ActiveState=inactive; echo MainPID=0")
    found = systemd.show_all(["klipper.service", "alias.service"], ["ActiveState", "MainPID"])
    assert found == {
        "klipper.service": {"ActiveState": "active", "MainPID": "7"},
        "alias.service": {"ActiveState": "inactive", "MainPID": "0"},
    }
    assert len(asked(tmp_path)) == 1 and systemd.show_all([], ["ActiveState"]) == {}
    with pytest.raises(SystemdError, match="2 answers for 1 units"):
        systemd.show_all(["klipper.service"], ["ActiveState"])


@pytest.mark.parametrize(
    ("state", "active", "gone"),
    [
        *(("active", True, False), ("activating", True, False), ("reloading", True, False)),
        *(("deactivating", False, False), ("inactive", False, True), ("failed", False, True)),
    ],
)
def test_unit_whose_last_lines_still_run_is_neither_active_nor_gone(
    install: Install, state: str, active: bool, gone: bool
) -> None:
    install(f"echo ActiveState={state}")
    assert (systemd.is_active("x"), systemd.is_gone("x")) == (active, gone)


def test_unit_that_systemd_has_unloaded_is_started_although_its_failures_cannot_be_reset(
    install: Install, tmp_path: Path
) -> None:
    """``systemctl reset-failed`` fails for a unit that isn't loaded, such as a stopped one that nothing refers to."""
    install('test "$1" != reset-failed || { echo "Unit x not loaded." >&2; exit 1; }')
    systemd.start("x")
    systemd.start("x", wait=False)
    assert [line for line in asked(tmp_path) if "reset" not in line] == [
        "systemctl start x",
        "systemctl start --no-block x",
    ]


def test_failure_says_what_was_asked_and_what_systemd_said(install: Install) -> None:
    install("echo 'Access denied' >&2; exit 4")
    with pytest.raises(SystemdError, match=r"^systemctl stop x: Access denied$"):
        systemd.stop("x")
    install("exit 4")
    with pytest.raises(SystemdError, match="exit code 4"):
        systemd.start("x")


def test_systemctl_that_hangs_is_an_error_in_time(install: Install) -> None:
    install("exec sleep 30")
    with pytest.raises(SystemdError, match=r"systemctl stop x: no answer within 0.2 s"):
        systemd.systemctl("stop", "x", timeout=0.2)


def test_host_without_systemd_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemdError, match="systemctl is not on this host"):
        systemd.is_active("x")


def test_transient_unit_is_collected_and_its_command_stands_apart(install: Install, tmp_path: Path) -> None:
    install("")
    systemd.run_transient("u.service", ["Type=exec", "TimeoutStopSec=5"], ["/bin/agent", "--flag"])
    assert asked(tmp_path) == [
        "systemd-run --quiet --unit=u.service --collect --property=Type=exec --property=TimeoutStopSec=5 "
        "-- /bin/agent --flag"
    ]
