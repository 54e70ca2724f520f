"""What went over a port is there after a failure: bounded, for root alone, and without what nobody may read."""

import stat
from pathlib import Path

import pytest
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import capture, guard
from fleetflash.agent.capture import BURSTS, HEAD, Capture, Recorder


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(guard, "RUN", tmp_path)
    return tmp_path


def talk(recorder: Recorder, terminal: PseudoTerminal) -> list[str]:
    """Send a frame, get a line back, close; return what is kept of the port."""
    port = recorder.open(terminal.path, 115200)
    port.write(b"\x57\xab\xa1" + bytes(100))
    terminal.read(103)
    terminal.write(b"ready\r\n")
    assert port.read(7, 5.0) == b"ready\r\n"
    port.close()
    return capture.read("t-1")[Path(terminal.path).name]


def test_both_directions_are_kept_with_the_beginning_of_each_burst(terminal: PseudoTerminal) -> None:
    opened, written, heard = (line.split(" ", 1)[1] for line in talk(Recorder("t-1"), terminal))
    assert opened == f"{terminal.path} opened at 115200 bit/s"
    assert written == f"> 103 bytes 57aba1{bytes(HEAD - 3).hex()} …"
    assert heard == "< 7 bytes 'ready\\r\\n'"


def test_of_a_flash_tools_port_only_numbers_are_kept(terminal: PseudoTerminal) -> None:
    lines = talk(Recorder("t-1", {terminal.path}), terminal)
    assert [line.split(" ", 1)[1] for line in lines[1:]] == ["> 103 bytes …", "< 7 bytes …"]


def test_port_that_is_opened_again_goes_on_and_another_transaction_begins_anew(terminal: PseudoTerminal) -> None:
    recorder = Recorder("t-1")
    talk(recorder, terminal)
    assert len(talk(recorder, terminal)) == 6
    later = Recorder("t-2").open(terminal.path, 9600)
    later.close()
    assert capture.read("t-1") == {} and len(capture.read("t-2")[Path(terminal.path).name]) == 1


def test_it_is_roots_alone_and_bounded(terminal: PseudoTerminal, run: Path) -> None:
    talk(Recorder("t-1"), terminal)
    (path,) = (run / "serial").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = Capture()
    for number in range(1000):
        kept.add("<>"[number % 2], b"x" * 10_000)
    assert len(kept.lines()) == BURSTS and max(map(len, kept.lines())) < 200


def test_place_that_can_not_be_written_costs_no_transaction(terminal: PseudoTerminal, run: Path) -> None:
    (run / "serial").write_text("a file is in the way")
    port = Recorder("t-1").open(terminal.path, 9600)
    port.write(b"x")
    port.close()
    assert capture.read("t-1") == {}
