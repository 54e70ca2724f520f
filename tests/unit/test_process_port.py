"""A process keeps its own pseudo-terminal open and is no holder of it; anybody else is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.agent.port import PortAbsentError, PortError
from fleetflash.agent.process_port import offerers, open_offered, others

#: As Klipper's src/linux/console.c: both ends stay open, a link leads to the terminal.
OFFER = """
import os, pty, sys, tty
master, slave = pty.openpty()
tty.setraw(slave)
os.symlink(os.ttyname(slave), sys.argv[1])
print("ready", flush=True)
os.read(master, 1)
"""
HOLD = "import sys; file = open(sys.argv[1], 'rb', buffering=0); print('ready', flush=True); sys.stdin.read()"


def started(program: str, argument: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(argument)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    link = tmp_path / "klipper_host_mcu"
    process = started(OFFER, link)
    yield link, process
    process.kill()
    process.communicate()


def test_terminal_is_opened_although_its_own_process_has_it_open(
    offered: tuple[Path, "subprocess.Popen[str]"],
) -> None:
    link, process = offered
    assert offerers(os.path.realpath(link)) == {process.pid}
    assert others(str(link)) == []
    port = open_offered(str(link), 250000, 0.0)
    port.write(b"!")
    assert process.wait(10) == 0
    port.close()


def test_terminal_that_somebody_else_holds_is_refused_and_named(offered: tuple[Path, "subprocess.Popen[str]"]) -> None:
    link, _ = offered
    holder = started(HOLD, link)
    try:
        assert [pid for pid, _ in others(str(link))] == [holder.pid]
        with pytest.raises(PortError, match=f"{link}: .*pid {holder.pid}") as refused:
            open_offered(str(link), 250000, 0.0)
        assert not isinstance(refused.value, PortAbsentError)
    finally:
        holder.communicate()


def test_process_that_is_starting_is_waited_for(tmp_path: Path) -> None:
    link = tmp_path / "later"
    with pytest.raises(PortAbsentError, match=f"{link}: .*no such port"):
        open_offered(str(link), 250000, 0.0)
    program = "import time; time.sleep(0.3)\n" + OFFER
    process = subprocess.Popen([sys.executable, "-c", program, str(link)], stdout=subprocess.PIPE)
    try:
        open_offered(str(link), 250000, 20.0).close()
    finally:
        process.kill()
        process.communicate()


def test_device_that_is_no_terminal_is_offered_by_nobody(tmp_path: Path) -> None:
    assert offerers("/dev/ttyUSB0") == frozenset()
    (tmp_path / "12/fd").mkdir(parents=True)
    (tmp_path / "12/fd/3").symlink_to("/dev/ptmx")
    assert offerers("/dev/pts/1", tmp_path) == frozenset()
    (tmp_path / "12/fdinfo").mkdir()
    (tmp_path / "12/fdinfo/3").write_text("pos:\t0\nflags:\t02\ntty-index:\t10\n")
    assert offerers("/dev/pts/1", tmp_path) == frozenset() and offerers("/dev/pts/10", tmp_path) == {12}
