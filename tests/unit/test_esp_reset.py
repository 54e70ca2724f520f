"""The reset circuit of ESP boards in its own time: IO0 is read when EN has risen, not when it was let go."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.boards.board import Settings
from fleetflash.lab.boards.esp.auto_reset import RISE_TIME
from fleetflash.lab.boards.esp.board import EspBoard
from fleetflash.lab.boards.esp.chips import CHIPS
from fleetflash.lab.boards.modem import TIOCMSET, Wiring

DTR, RTS = 0x002, 0x004
NO_NETWORK = {"http": "", "mqtt": "", "mqtt_login": "", "topic": "", "candump": ""}
BURNT_NOTHING = {"secure_boot": False, "flash_encryption": False, "secure_download": False, "download_disabled": False}


class Bench:
    """A board in this process, and the clock that it lives by."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        settings = Settings(pty=directory / "tty", flash=directory / "flash", wiring=Wiring())
        arguments = argparse.Namespace(uid=None, flash_size=1, equipment=[], **NO_NETWORK, **BURNT_NOTHING)
        self.board = EspBoard.of(CHIPS["esp32"])(settings, arguments)
        self.board.plug_in()
        self.wait(1.0)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.board.loop._run_timers()

    def set(self, bits: int) -> None:
        self.board.modem.request(TIOCMSET, bits)
        self.board.loop._run_timers()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path, monkeypatch)
    yield bench
    bench.board.pull_out()


def test_io0_counts_when_en_has_risen(bench: Bench) -> None:
    bench.set(RTS)
    assert bench.board.mode == "off"
    # One line after the other: with both asserted EN rises, and IO0 is still high.
    bench.set(DTR | RTS)
    bench.wait(RISE_TIME * 0.9)
    assert bench.board.mode == "off"
    bench.set(DTR)
    bench.wait(RISE_TIME * 0.2)
    assert bench.board.mode == "bootloader"


def test_io0_that_comes_too_late_starts_what_is_in_flash(bench: Bench) -> None:
    bench.set(RTS)
    bench.set(DTR | RTS)
    bench.wait(RISE_TIME * 1.1)
    bench.set(DTR)
    bench.wait(1.0)
    assert bench.board.mode == "dead"


def test_en_pulled_down_again_starts_nothing(bench: Bench) -> None:
    resets = bench.board.counters.resets
    bench.set(RTS)
    bench.set(DTR)
    bench.wait(RISE_TIME * 0.5)
    bench.set(RTS)
    bench.wait(1.0)
    assert (bench.board.mode, bench.board.counters.resets) == ("off", resets)
    bench.set(DTR)
    bench.wait(RISE_TIME * 1.1)
    assert (bench.board.mode, bench.board.counters.resets) == ("bootloader", resets + 1)
