import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import serial
from loopback_ssh import LoopbackSshd, needs_sshd
from pseudo_terminal import PseudoTerminal

from fleetflash.agent.ports import holders
from fleetflash.link import pyserial_hook
from fleetflash.link.port import RemotePort
from fleetflash.link.ssh import CONFIG_VARIABLE

pytestmark = needs_sshd


@pytest.fixture
def url(sshd: LoopbackSshd, terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch) -> str:
    pyserial_hook.register(serial)
    monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.config))
    return f"fleetflash://{sshd.user}@printer:{sshd.port}{terminal.path}"


@pytest.fixture
def port(url: str, terminal: PseudoTerminal) -> Iterator[Any]:
    with serial.serial_for_url(url, 115200, timeout=2) as port:
        yield port
    deadline = time.monotonic() + 10
    while holders(terminal.path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not holders(terminal.path)


def test_plain_use(port: Any, terminal: PseudoTerminal) -> None:
    port.write(b"ping\n")
    port.flush()
    assert terminal.read(5) == b"ping\n"
    terminal.write(b"pong\nmore")
    assert port.readline() == b"pong\n"
    deadline = time.monotonic() + 2
    while port.in_waiting < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert port.in_waiting == 4
    port.reset_input_buffer()
    assert port.in_waiting == 0
    port.reset_output_buffer()
    assert port.out_waiting == 0


def test_speed_and_timeouts(port: Any, terminal: PseudoTerminal) -> None:
    assert terminal.speed() == 115200
    port.baudrate = 921600
    assert terminal.speed() == 921600
    for timeout in (0.1, 0):
        port.timeout = timeout
        started = time.monotonic()
        assert port.read(1) == b""
        assert timeout <= time.monotonic() - started < timeout + 0.1


def test_changing_a_timeout_costs_no_round_trip(port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """esptool does it before every command; over RFC 2217 each is a negotiation."""

    def refuse(*_: object) -> None:
        raise AssertionError("something was sent")

    with monkeypatch.context() as patch:
        patch.setattr(RemotePort, "_send", refuse)
        for timeout in (3, 0.1, None, 1):
            port.timeout = timeout
        port.write_timeout = 5


def test_a_blocked_read_is_cancelled_at_once(port: Any) -> None:
    port.timeout = None
    ended: list[float] = []

    def read() -> None:
        port.read(1)
        ended.append(time.monotonic())

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.1)
    cancelled = time.monotonic()
    port.cancel_read()
    thread.join(5)
    assert ended[0] - cancelled < 0.05


def test_a_byte_comes_without_polling(port: Any, terminal: PseudoTerminal) -> None:
    """Where anything polls every 50 ms, as RFC 2217's client does, the median shows it."""
    terminal.echo()
    times = []
    for _ in range(40):
        started = time.monotonic()
        port.write(b"x")
        assert port.read(1) == b"x"
        times.append(time.monotonic() - started)
    assert sorted(times)[20] < 0.02


def test_lines_and_break(port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    real = RemotePort._send

    def spy(remote: RemotePort, frame: Any) -> None:
        if isinstance(frame, dict):
            sent.append({key: value for key, value in frame.items() if key not in ("id", "at")})
        real(remote, frame)

    monkeypatch.setattr(RemotePort, "_send", spy)
    port.dtr = False
    port.rts = True
    port.setDTR(True)
    port.break_condition = True
    port.break_condition = False
    port.send_break(0.01)
    assert (port.cts, port.dsr, port.ri, port.cd) == (False, False, False, False)
    assert sent[:6] == [
        {"type": "lines", "dtr": False, "rts": None},
        {"type": "lines", "dtr": None, "rts": True},
        {"type": "lines", "dtr": True, "rts": None},
        {"type": "break", "on": True},
        {"type": "break", "on": False},
        {"type": "break", "seconds": 0.01},
    ]


def test_a_reset_as_esptool_does_it(port: Any, terminal: PseudoTerminal) -> None:
    """esptool's classic sequence; before it, esptool asks the name whether an ioctl reaches the lines."""
    assert port.name.startswith("rfc2217:") and port.name.startswith("fleetflash://")
    with pytest.raises(OSError):
        port.fileno()
    started = time.monotonic()
    port.setDTR(False)
    port.setRTS(True)
    port.setDTR(port.dtr)
    time.sleep(0.1)
    port.setDTR(True)
    port.setRTS(False)
    port.setDTR(port.dtr)
    time.sleep(0.05)
    port.setDTR(False)
    port.write(b"sync")
    assert terminal.read(4) == b"sync"
    assert 0.15 <= time.monotonic() - started < 10


def test_open_and_close_again(url: str, terminal: PseudoTerminal) -> None:
    port = serial.serial_for_url(url, do_not_open=True, exclusive=True)
    assert not port.is_open
    port.baudrate = 250000
    for _ in range(2):
        port.open()
        assert port.is_open and terminal.speed() == 250000
        port.close()
        port.close()
        assert not holders(terminal.path)
    with pytest.raises(serial.PortNotOpenError):
        port.read()


def test_a_writer_that_is_not_heard_times_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetflash.link.port.CLOSE_SECONDS", 0.5)
    with serial.serial_for_url(url, write_timeout=0.3) as port, pytest.raises(serial.SerialTimeoutException):
        port.write(bytes(2_000_000))


def test_unplugging_is_a_serial_exception(port: Any, terminal: PseudoTerminal) -> None:
    terminal.unplug()
    with pytest.raises(serial.SerialException, match=r"printer: .*: unplugged"):
        port.read(1)


@pytest.mark.parametrize(
    ("end", "words"),
    [("/dev/none", "no such port"), ("", "not a port's URL"), ("/dev/x?speed=9", "unknown option speed")],
)
def test_what_cannot_be_opened_is_named(url: str, end: str, words: str) -> None:
    with pytest.raises(serial.SerialException, match=words):
        serial.serial_for_url(f"{url.partition('/dev')[0]}{end}")


def test_formats_that_are_not_served_are_refused(url: str) -> None:
    for options in ({"bytesize": 7}, {"stopbits": 2}, {"rtscts": True}, {"xonxoff": True}):
        with pytest.raises(ValueError, match="served"):
            serial.serial_for_url(url, **options)


# The .pth


def run(program: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_every_program_of_the_virtualenv_knows_the_url(url: str, terminal: PseudoTerminal) -> None:
    terminal.echo()
    program = f"""
import serial
with serial.serial_for_url({url!r}, timeout=5) as port:
    port.write(b"hello")
    print(port.read(5).decode())
"""
    assert run(program) == "hello"


def test_the_start_of_the_interpreter_stays_cheap() -> None:
    loaded = run("import sys; print(*sorted(sys.modules))").split()
    assert "fleetflash.link.pyserial_hook" in loaded
    assert not {"serial", "paramiko", "fleetflash.link.ssh"} & set(loaded)


def test_the_hook_leaves_nothing_behind_once_serial_is_there() -> None:
    program = """
import sys, serial
from fleetflash.link.pyserial_hook import SerialWatcher
print(serial.protocol_handler_packages, any(isinstance(f, SerialWatcher) for f in sys.meta_path))
"""
    assert run(program) == "['serial.urlhandler', 'fleetflash.link'] False"


def test_a_virtualenv_without_pyserial_is_left_alone() -> None:
    program = """
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
try:
    import serial
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(program) == "No module named 'serial'"


def test_miniterm_works_and_ends_at_once(url: str, terminal: PseudoTerminal) -> None:
    """On a terminal of its own, as a person uses it; ctrl-] ends it, which takes cancel_read."""
    screen, keyboard = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "serial.tools.miniterm", "--raw", url, "250000"],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        start_new_session=True,
    )
    os.close(keyboard)
    try:
        assert "Quit" in _read_until(screen, "Quit")
        assert terminal.speed() == 250000
        os.write(screen, b"M115")
        assert terminal.read(4) == b"M115"
        terminal.write(b"FIRMWARE")
        _read_until(screen, "FIRMWARE")
        os.write(screen, b"\x1d")
        started = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - started < 10
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def _read_until(fd: int, words: str) -> str:
    text = ""
    deadline = time.monotonic() + 15
    while words not in text and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.2)[0]:
            text += os.read(fd, 4096).decode(errors="replace")
    assert words in text
    return text
