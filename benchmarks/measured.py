"""A command of the controller, measured: its time, its processor and memory, and what it costs each host of a lab."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab import cgroup
from fleetflash.lab.host import Host

#: How often the memory of the controller is looked at, in seconds.
MEMORY_INTERVAL = 0.25
#: So long hosts are watched to learn what they need when nobody asks anything of them, in seconds.
IDLE_SECONDS = 5.0
#: Of sshd_config(5), ``LogLevel VERBOSE``: a line for each command, and for each subsystem such as sftp.
SESSIONS = "sudo journalctl -q -t sshd -o cat | grep -Ec 'Starting session: (command|subsystem)'"


@dataclass(frozen=True)
class Measured:
    """One run. ``seconds``: wall time; ``processor``: of the controller and what it waited for, in seconds.

    ``memory``: the most that the controller's processes held at once, in bytes (PSS). ``host_processor``: seconds of a
    host's processor beyond what it needs idle, the mean of all. ``execs``: SSH sessions of a host, fewest and most;
    ``None`` when they were not counted.
    """

    code: int
    output: str
    seconds: float
    processor: float
    memory: int
    host_processor: float
    execs: tuple[int, int] | None


class Hosts:
    """The hosts that a command works on, and what they are watched for."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = list(hosts)
        self.idle = 0.0
        self._each("echo 'LogLevel VERBOSE' | sudo tee /etc/ssh/sshd_config.d/verbose.conf; sudo systemctl reload ssh")

    def rest(self) -> None:
        """Learn what a host needs idle, in seconds of its processor per second."""
        before = self._processor()
        time.sleep(IDLE_SECONDS)
        self.idle = (self._processor() - before) / IDLE_SECONDS / len(self.hosts)

    def measure(self, command: Sequence[str], directory: Path, environment: dict[str, str], count: bool) -> Measured:
        """Run a command in ``directory``; ``count`` its SSH sessions, too."""
        sessions = self._sessions() if count else []
        host_before, started = self._processor(), time.monotonic()
        code, output, processor, memory = _run(command, directory, environment)
        seconds = time.monotonic() - started
        each = (self._processor() - host_before) / len(self.hosts) - self.idle * seconds
        execs = None
        if count:
            # Of the difference, one is the counting itself.
            found = [after - before - 1 for before, after in zip(sessions, self._sessions(), strict=True)]
            execs = (min(found), max(found))
        return Measured(code, output, seconds, processor, memory, max(each, 0.0), execs)

    def _processor(self) -> float:
        """Return the seconds of processor time of all hosts so far.

        Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.stat": ``usage_usec``, with or without controllers.
        """
        total = 0
        for host in self.hosts:
            for line in (cgroup.roots()[0] / host.cgroup / "cpu.stat").read_text().splitlines():
                name, value = line.split()
                total += int(value) if name == "usage_usec" else 0
        return total / 1e6

    def _sessions(self) -> list[int]:
        return [int(text) for text in self._each(SESSIONS)]

    def _each(self, command: str) -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda host: host.run(command).stdout, self.hosts))


def _run(command: Sequence[str], directory: Path, environment: dict[str, str]) -> tuple[int, str, float, int]:
    """Return exit code, output, seconds of processor and bytes of memory. Daemons are in the latter alone."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    memory = _Memory(process.pid)
    assert process.stdout is not None
    with process.stdout as stream:
        output = stream.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, output, used.ru_utime + used.ru_stime, max(memory.stop(), 0)


class _Memory:
    """Watches a process and all below it, in the background."""

    def __init__(self, root: int) -> None:
        self._root, self._most = root, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._over.wait(MEMORY_INTERVAL):
            self._most = max(self._most, sum(map(_pss, _family(self._root))))


def _family(root: int) -> set[int]:
    """Return a process and all below it (proc_pid_stat(5): after the name in brackets come state and parent)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, fresh = {root}, {root}
    while fresh := {pid for pid, parent in parents.items() if parent in fresh}:
        found |= fresh
    return found


def _pss(pid: int) -> int:
    """Return the bytes that a process holds, with its share of what several hold (proc(5), ``smaps_rollup``)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
