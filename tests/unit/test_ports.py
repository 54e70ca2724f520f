import fcntl
import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import holders as holders_module
from fleetflash.agent.port import PortError
from fleetflash.agent.ports import SerialPort, holders


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal() as terminal:
        yield terminal


@pytest.fixture
def intruder(terminal: PseudoTerminal) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has the port open and takes no lock."""
    program = f"import os,time; os.open({terminal.path!r}, os.O_RDWR|os.O_NOCTTY); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_data_passes_both_ways(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    every_byte = bytes(range(256))
    port.write(every_byte)
    assert terminal.read(256) == every_byte
    terminal.write(every_byte)
    assert port.read(256, 2) == every_byte
    port.close()


@pytest.mark.parametrize("baudrate", [9600, 115200, 250000, 1000000, 1500001])
def test_speed_is_exact(terminal: PseudoTerminal, baudrate: int) -> None:
    port = SerialPort.open(terminal.path, baudrate)
    assert terminal.speed() == baudrate
    port.set_baudrate(74880)
    assert terminal.speed() == 74880
    port.close()


@pytest.mark.parametrize("baudrate", [0, -1])
def test_a_speed_that_would_hang_up_is_refused(terminal: PseudoTerminal, baudrate: int) -> None:
    with pytest.raises(PortError, match="is not a speed"):
        SerialPort.open(terminal.path, baudrate)
    assert not holders_module.holders(terminal.path)
    SerialPort.open(terminal.path).close()


def test_a_speed_that_the_adapter_cannot_make_is_refused(
    terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = SerialPort.open(terminal.path)
    monkeypatch.setattr("fleetflash.agent.termios2.read_speed", lambda fd: 9600)
    with pytest.raises(PortError, match="makes 9600 of 2000000 bit/s"):
        port.set_baudrate(2000000)
    port.close()


def test_line_is_raw_8n1_and_closing_does_not_drop_the_lines(terminal: PseudoTerminal) -> None:
    wrong = termios.CSTOPB | termios.CRTSCTS | termios.HUPCL
    before = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    settings = termios.tcgetattr(before)
    settings[2] |= wrong
    termios.tcsetattr(before, termios.TCSANOW, settings)
    os.close(before)
    assert terminal.control_flags() & wrong == wrong
    port = SerialPort.open(terminal.path)
    flags = terminal.control_flags()
    assert flags & termios.CSIZE == termios.CS8
    assert not flags & (wrong | termios.PARENB)
    port.close()


def test_even_parity_is_asked_of_the_driver(terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal forgets parity at once, so the request itself is looked at."""
    port = SerialPort.open(terminal.path)
    flags: list[int] = []
    monkeypatch.setattr("fleetflash.agent.termios2._set", lambda fd, values: flags.append(values[2]))
    for parity in ("E", "O", "N"):
        port.set_parity(parity)
    both = termios.PARENB | termios.PARODD
    assert [value & both for value in flags] == [termios.PARENB, both, 0]
    with pytest.raises(PortError, match="none of N, E, O"):
        port.set_parity("M")
    port.close()


def test_read_returns_as_soon_as_the_bytes_are_there(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    timer = threading.Timer(0.05, terminal.write, [b"abcd"])
    timer.start()
    started = time.monotonic()
    assert port.read(3, 5) == b"abc"
    assert time.monotonic() - started < 10
    assert port.read(10, 0) == b"d"
    timer.join()
    port.close()


def test_read_ends_at_its_deadline(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    terminal.write(b"x")
    started = time.monotonic()
    assert port.read(10, 0.2) == b"x"
    assert 0.19 < time.monotonic() - started < 10
    port.close()


def test_a_board_that_takes_no_data_is_an_error(terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetflash.agent.ports.WRITE_STALL", 0.2)
    port = SerialPort.open(terminal.path)
    with pytest.raises(PortError, match="takes no data"):
        port.write(bytes(1_000_000))
    port.close()


def test_discard_input_drops_what_came(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    terminal.write(b"old")
    time.sleep(0.05)
    port.discard_input()
    terminal.write(b"new")
    assert port.read(3, 2) == b"new"
    port.close()


def test_a_holder_is_named_even_behind_a_symlink(
    terminal: PseudoTerminal, intruder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    link = tmp_path / "usb-1a86_USB_Serial-if00-port0"
    link.symlink_to(terminal.path)
    assert [pid for pid, _ in holders(str(link))] == [intruder.pid]
    with pytest.raises(PortError, match=rf"{link}: in use by pid {intruder.pid} \({sys.executable} -c import os"):
        SerialPort.open(str(link))


def test_a_holder_that_came_between_look_and_lock_is_found(
    terminal: PseudoTerminal, intruder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([[]])
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: next(looks, [(intruder.pid, "klippy")]))
    with pytest.raises(PortError, match=f"in use by pid {intruder.pid}"):
        SerialPort.open(terminal.path)


def test_a_port_is_locked_against_a_second_open(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    with pytest.raises(PortError, match="locked by"):
        SerialPort.open(terminal.path)
    port.close()
    SerialPort.open(terminal.path).close()


def test_a_port_is_marked_exclusive_and_the_mark_goes_with_it(terminal: PseudoTerminal) -> None:
    requests = []
    real = fcntl.ioctl

    def spy(fd: int, request: int, *arguments: object) -> object:
        requests.append(request)
        return real(fd, request, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "ioctl", spy)
        port = SerialPort.open(terminal.path)
        assert termios.TIOCEXCL in requests
        port.close()
    assert termios.TIOCNXCL in requests


def test_terminals_of_two_containers_are_told_apart() -> None:
    """Each container counts its pseudo-terminals from zero, so the device number alone says nothing."""
    with PseudoTerminal() as one:
        own = Path(one.path).stat()
        values = list(own)
        values[1] = own.st_ino + 1
        other = os.stat_result(values, {"st_rdev": own.st_rdev})
        assert holders_module.same_device(own, Path(one.path).stat())
        assert not holders_module.same_device(own, other)


def test_missing_lines_of_a_pseudo_terminal_are_ignored(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    started = time.monotonic()
    port.play([(True, False, 0.03), (False, None, 0.0), (None, None, 0.02), (None, True, 0.0)])
    assert 0.05 <= time.monotonic() - started < 10
    port.set_break(True)
    port.set_break(False)
    assert port.modem_inputs() == 0
    port.close()


def test_lines_are_set_together(terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ESP32's reset circuit glitches when DTR and RTS change one after the other."""
    port = SerialPort.open(terminal.path)
    calls: list[tuple[int, int]] = []

    def ioctl(fd: int, request: int, argument: bytes) -> bytes:
        calls.append((request, int.from_bytes(argument, sys.byteorder)))
        return (termios.TIOCM_CTS | termios.TIOCM_RTS).to_bytes(4, sys.byteorder)

    with monkeypatch.context() as patch:
        patch.setattr("fleetflash.agent.ports.fcntl.ioctl", ioctl)
        port.set_lines(True, False)
        port.set_lines(True, True)
        port.set_lines(False, None)
    assert calls == [
        (termios.TIOCMGET, 0),
        (termios.TIOCMSET, termios.TIOCM_CTS | termios.TIOCM_DTR),
        (termios.TIOCMBIS, termios.TIOCM_DTR | termios.TIOCM_RTS),
        (termios.TIOCMBIC, termios.TIOCM_DTR),
    ]
    port.close()


def test_unplugging_is_named(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    terminal.unplug()
    with pytest.raises(PortError, match=rf"{terminal.path}: unplugged"):
        port.read(1, 2)
    with pytest.raises(PortError, match="unplugged"):
        port.write(b"x")
    port.close()
    port.close()


def test_a_closed_port_says_so(terminal: PseudoTerminal) -> None:
    port = SerialPort.open(terminal.path)
    port.close()
    with pytest.raises(PortError, match="is closed"):
        port.read(1, 0)


@pytest.mark.parametrize(
    ("path", "words"),
    [("/dev/serial/by-id/none", "no such port"), ("/dev/full", "not a serial port"), ("/etc", "not a")],
)
def test_what_is_no_port_is_refused(path: str, words: str) -> None:
    with pytest.raises(PortError, match=f"{path}: {words}"):
        SerialPort.open(path)
