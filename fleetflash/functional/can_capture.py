"""Where frames come from: a candump log here, or a capture that a host takes now, over SSH."""

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetflash.functional.description import CanCheck
from fleetflash.functional.errors import AskError, CanLogError
from fleetflash.link.errors import LinkError
from fleetflash.link.ssh import connect

if TYPE_CHECKING:
    import paramiko

#: A bus at 1 Mbit/s fills this in more than ten minutes, in bytes.
MOST = 64 << 20
#: What logging in and starting candump may take, in seconds.
GRACE = 20.0
#: coreutils, timeout(1): the exit code when it had to end the program, which is how a capture ends well.
TIMED_OUT = 124
_CLOCK = re.compile(rb"\d{1,12}(\.\d{1,9})?")


@dataclass(frozen=True)
class Capture:
    """``lines``: as candump wrote them. ``begin``, ``end``: by the host's clock; ``None`` for a log, which has none."""

    name: str
    lines: list[bytes]
    begin: float | None = None
    end: float | None = None


def command(interface: str, seconds: float) -> str:
    """Return what a host runs, whatever the login's shell: its clock, candump for so long, its clock again.

    candump ends by itself and writes what it has when it is interrupted (can-utils, candump.c).
    """
    duration = math.ceil(seconds)
    script = f"date +%s.%N; timeout -s INT {duration} candump -L {interface}; s=$?; date +%s.%N; exit $s"
    return f"sh -c '{script}'"


def read_capture(output: bytes, name: str) -> Capture:
    """Return the capture that ``command`` printed; raises ``CanLogError`` when the clocks are not in it."""
    lines = output.splitlines()
    if len(lines) < 2 or not (_CLOCK.fullmatch(lines[0]) and _CLOCK.fullmatch(lines[-1])):
        raise CanLogError(f"{name}: {output[:60]!r} is no capture; run candump -L there by hand")
    return Capture(name, lines[1:-1], float(lines[0]), float(lines[-1]))


def take(check: CanCheck, own: Callable[[], "paramiko.Transport"]) -> Capture:
    """Read the log, or take a capture; raises ``AskError``.

    + own: the connection to the gateway's own host; may raise ``LinkError``
    """
    if check.log:
        return _read_log(Path(check.log).expanduser())
    try:
        if not check.host:
            return _listen(own(), check.interface, check.seconds, check.interface)
        with connect(check.host) as connection:
            return _listen(connection.transport, check.interface, check.seconds, f"{check.host}:{check.interface}")
    except LinkError as error:
        raise AskError(str(error)) from None


def _read_log(path: Path) -> Capture:
    try:
        if path.stat().st_size > MOST:
            raise CanLogError(f"{path}: {path.stat().st_size >> 20} MiB, expected {MOST >> 20} at most; cut out a part")
        return Capture(str(path), path.read_bytes().splitlines())
    except OSError as error:
        raise CanLogError(f"{path}: {error.strerror}; write one with candump -L, or correct log") from None


def _listen(transport: "paramiko.Transport", interface: str, seconds: float, name: str) -> Capture:
    import paramiko

    end = time.monotonic() + seconds + 2 * GRACE
    try:
        with transport.open_session(timeout=GRACE) as channel:
            channel.settimeout(seconds + GRACE)
            # Paramiko waits for the answer to an exec request without a limit; closing the channel ends that.
            watchdog = threading.Timer(GRACE, channel.close)
            watchdog.daemon = True
            watchdog.start()
            try:
                channel.exec_command(command(interface, seconds))
            finally:
                watchdog.cancel()
            output = bytearray()
            while part := channel.recv(1 << 16):
                output += part
                if time.monotonic() > end:
                    raise TimeoutError
                if len(output) > MOST:
                    raise AskError(f"{name}: more than {MOST >> 20} MiB of frames; listen for fewer seconds")
            said = channel.makefile_stderr("rb").read(4096).decode(errors="replace")
            code = channel.recv_exit_status()
    except TimeoutError:
        raise AskError(f"{name}: candump did not end after {seconds:g} s; look at the host") from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise AskError(f"{name}: the connection broke off ({error or 'closed'}); try again") from None
    if code != TIMED_OUT:
        raise AskError(f"{name}: {_why(said, code)}")
    return read_capture(bytes(output), name)


def _why(said: str, code: int) -> str:
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), f"exit code {code}")
    if code == 127 or "No such file" in last:
        return f"there is no candump ({last[:80]}); install can-utils"
    return f"candump ended with {last[:80]!r}; is the interface there and up? ip -details link show"
