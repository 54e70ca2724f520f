"""One printer host: preparing, starting, stopping, cutting its power, and running commands on it."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetflash.lab import cgroup, clock, durable, klipper, mounts, personality, plug, process
from fleetflash.lab.board import Board
from fleetflash.lab.errors import LabError
from fleetflash.lab.layout import Layout
from fleetflash.lab.moonraker import Moonraker
from fleetflash.lab.network import Link
from fleetflash.lab.spec import HostSpec, LabSpec

#: Thirty years, in seconds.
FURTHEST_JUMP = 1e9


class Host:
    """A host of a lab. All state is on disk or in the kernel, so any process can make one of these."""

    def __init__(self, layout: Layout, lab: LabSpec, name: str) -> None:
        found = [spec for spec in lab.hosts if spec.name == name]
        if not found:
            raise LabError(f"no host {name!r} in lab {layout.name}: {', '.join(spec.name for spec in lab.hosts)}")
        self.layout = layout
        self.lab = lab
        self.spec: HostSpec = found[0]
        self.name = name
        self.address = lab.address(name)
        self.directory: Path = layout.host(name)
        self.root = self.directory / "root"
        self.cgroup = layout.cgroup(f"host.{name}")
        self.machine = layout.machine(name)
        self.link = Link(layout, name, 1 + lab.index(name), self.address, self.spec.delay_ms)
        self.moonraker = Moonraker(name, self.address)

    # Boards

    @property
    def boards(self) -> list[Board]:
        return [Board(self.layout, self.spec, board) for board in self.spec.boards]

    def board(self, name: str) -> Board:
        for board in self.boards:
            if board.spec.name == name:
                return board
        known = ", ".join(board.name for board in self.spec.boards) or "none"
        raise LabError(f"{self.name} has no board {name!r}: {known}")

    def plug(self, name: str, *, first: int = 0) -> None:
        """Plug a board in. A host that is off will find it when it starts.

        ``first``: the lowest number that its ttyUSB may get; a kernel passes over those that are still held open.
        """
        board = self.board(name)
        with self.lock():
            board.want(True)
            leader = self.leader
            if leader is not None:
                board.start()
                plug.plug(self.layout, leader, [board], first=first)

    def unplug(self, name: str) -> None:
        """Pull a board out; it stays out, also across a restart of the host, until it is plugged in again."""
        board = self.board(name)
        with self.lock():
            board.want(False)
            plug.unplug(self.layout, self.leader, board)

    def port(self, board: str) -> str | None:
        """The device that a plugged-in board is on this host, such as /dev/ttyUSB0."""
        tty = plug.ports(self.directory).get(self.board(board).spec.name)
        return f"/dev/{tty}" if tty else None

    # Power

    @property
    def phase(self) -> str:
        """``off``, ``booting``, ``running`` (boards are plugged in) or ``ready`` (boot has finished)."""
        phase = str(self._read_boot().get("phase", "off"))
        return phase if phase == "off" or cgroup.pids(self._supervisor_group) else "off"

    @property
    def leader(self) -> int | None:
        """The host's first process as the machine sees it, once boards can be plugged in."""
        leader = self._read_boot().get("leader")
        # A number from before a restart of the machine may belong to somebody else by now.
        return leader if leader in cgroup.pids(self.cgroup) else None

    def start(self, timeout: float = 60.0) -> None:
        """Power on; returns when sshd answers."""
        self.launch()
        self.wait_ssh(timeout)

    def launch(self) -> None:
        """Power on without waiting."""
        with self.lock():
            if self.phase != "off":
                raise LabError(f"{self.name} is already on")
            self._forget()
            overlay = self.directory
            mounts.overlay(Path(self.lab.base), overlay / "upper", overlay / "work", self.root)
            personality.apply(self.root, self.layout, self.lab, self.spec)
            durable.begin(self.directory, self.root)
            clock.reset(self.directory)
            self.link.attach()
            self.write_boot("booting")
            process.detach(
                cgroup.create(self._supervisor_group),
                process.python("-m", "fleetflash.lab.supervisor", self.layout.name, self.name),
                self.directory / "supervisor.log",
            )

    def stop(self, timeout: float = 60.0) -> None:
        """Shut down cleanly, then power off."""
        leader = self.leader
        if leader is None:
            if self.phase == "off":
                return
            raise LabError(f"{self.name} is still booting")
        # What systemd in a container takes for the power button.
        os.kill(leader, signal.SIGRTMIN + 4)
        deadline = time.monotonic() + timeout
        while cgroup.pids(self._supervisor_group):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} does not shut down in {timeout:.0f} s; crash cuts its power")
            time.sleep(0.02)
        with self.lock():
            self._forget()

    def crash(self, *, keep_boards: bool = False) -> None:
        """Cut the power: nothing on the host gets another cycle, no connection is closed, unsynced writes are lost.

        What counts as synced, and where: ``fleetflash.lab.durable``.
        The boards lose power with their host unless ``keep_boards`` says that they have their own supply.
        """
        cgroup.kill(self._supervisor_group)
        self.link.lose()
        cgroup.kill(self.cgroup)
        if not keep_boards:
            for board in self.boards:
                board.cut_power()
        with self.lock():
            durable.lose_the_rest(self.directory, self.root)
            self._forget()

    def _forget(self) -> None:
        """End what may still run, and clear away what a host that is off does not have."""
        cgroup.kill(self._supervisor_group)
        cgroup.kill(self.cgroup)
        self.link.detach()
        cgroup.remove(self._supervisor_group)
        cgroup.remove(self.cgroup)
        plug.reset(self.layout, self.name)
        durable.forget(self.directory)
        self.write_boot("off")

    def wait_ssh(self, timeout: float = 60.0) -> None:
        """Wait for sshd's greeting."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with socket.create_connection((self.address, 22), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if self.phase == "off":
                said = process.tail(self.directory / "supervisor.log")
                raise LabError(f"{self.name} does not boot: {said}; see {self.directory}/console.log")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no ssh after {timeout:.0f} s; see {self.directory}/console.log")
            time.sleep(0.02)

    def wait_klippy(self, state: str, timeout: float) -> None:
        """Wait until Moonraker reports klippy in this state, such as ``ready``."""
        deadline = time.monotonic() + timeout
        while (now := self.moonraker.klippy_state()) != state:
            if time.monotonic() > deadline or self.phase == "off":
                raise LabError(f"{self.name} ({self.phase}): klippy is {now}, not {state}")
            time.sleep(0.1)

    # Use

    def run(
        self,
        command: str,
        *,
        user: str = "pi",
        check: bool = False,
        timeout: float | None = 60.0,
        stdin: str | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a shell command over SSH; ``check`` turns a failure into a LabError."""
        result = subprocess.run(
            [*self.ssh_command(user), command], capture_output=True, text=True, timeout=timeout, input=stdin or ""
        )
        if check and result.returncode:
            said = (result.stderr.strip() or result.stdout.strip()).splitlines()
            raise LabError(f"{self.name}: {command!r} exits {result.returncode}: {said[-1] if said else ''}")
        return result

    def ssh_command(self, user: str = "pi") -> list[str]:
        return ["ssh", "-F", str(self.layout.ssh_config), "-o", "BatchMode=yes", "-l", user, self.name]

    def jump_clock(self, seconds: float) -> None:
        """Move the wall clock that the host's programs see, negative: back; a power-on sets it right again.

        Clocks that only go on, such as CLOCK_MONOTONIC, stay as they are, and so do times of files.
        """
        if not abs(seconds) <= FURTHEST_JUMP:
            raise LabError(
                f"{self.name}: {seconds:g} is no jump of a clock: give {FURTHEST_JUMP:g} s at most, either way"
            )
        with self.lock():
            if self.phase == "off":
                raise LabError(f"{self.name} is off, and its clock would be set right when it starts: start it first")
            clock.move(self.directory, seconds)

    def start_print(self) -> None:
        """Start a print that goes on for hours; returns when klippy says that it prints."""
        self.moonraker.start_print(klipper.PRINT_FILE)

    def stop_print(self) -> None:
        self.moonraker.stop_print()

    # Records

    @property
    def _supervisor_group(self) -> str:
        return self.layout.cgroup(f"supervisor.{self.name}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One change of power or plugs at a time, between processes and threads."""
        with open(self.directory / "lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def write_boot(self, phase: str, leader: int | None = None) -> None:
        draft = self.directory / f"boot.json.{os.getpid()}"
        draft.write_text(json.dumps({"phase": phase, "leader": leader}))
        draft.rename(self.directory / "boot.json")

    def _read_boot(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads((self.directory / "boot.json").read_text())
        except FileNotFoundError:
            return {}
        return known
