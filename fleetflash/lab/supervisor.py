"""Runs one host from power-on to power-off; outlives the command that started it.

Run as ``python -m fleetflash.lab.supervisor LAB HOST``. It starts the boards, boots the container, plugs the
boards in before the host's own services start, boots again after a reboot, and writes what it knows into
``boot.json``: ``{"phase": "booting" | "running" | "ready" | "off", "leader": pid}``.
"""

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from fleetflash.lab import cgroup, clock, durable, plug, process
from fleetflash.lab.board import news_socket
from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from fleetflash.lab.layout import Layout
from fleetflash.lab.record import read

# What systemd-nspawn exits with when the host wants to be booted again.
_REBOOT = 133
_ATTEMPTS, _PAUSE = 5, 0.3  # tries and seconds between them


def main(lab: str, name: str) -> int:
    layout = Layout(lab)
    host = Host(layout, read(layout), name)
    host.write_boot("booting")
    try:
        while _boot(host) == _REBOOT:
            with host.lock():
                durable.begin(host.directory, host.root)
            host.write_boot("booting")
    except LabError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        # A host that is off powers no USB socket.
        with host.lock():
            cgroup.kill(host.cgroup)
            plug.reset(layout, name)
            durable.forget(host.directory)
            for board in host.boards:
                board.stop()
            host.link.detach()
            host.write_boot("off")
    return 0


def _boot(host: Host) -> int:
    """One boot, until power-off or reboot; returns systemd-nspawn's exit status."""
    with host.lock():
        plug.reset(host.layout, host.name)
        boards = [board for board in host.boards if board.wanted]
        for board in boards:
            board.launch()
    notify = host.directory / "notify"
    notify.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news, _listen(host) as usb:
        news.bind(str(notify))
        container = _start_container(host, notify)
        leader = _leader(news, container)
        for board in boards:
            board.wait_started()
        _wait_for_systemd(leader)
        with host.lock():
            plug.plug(
                host.layout,
                leader,
                [board for board in host.boards if board.wanted and board.running],
                before=plug.prepare(host.directory),
            )
            host.write_boot("running", leader)
        _attend(host, leader, container, news, usb)
    return container.wait()


def _attend(
    host: Host, leader: int, container: "subprocess.Popen[bytes]", news: socket.socket, usb: socket.socket
) -> None:
    """Until the host ends: hear when its boot has finished, and follow boards that become other USB devices."""
    end = os.pidfd_open(container.pid)
    try:
        while True:
            ready, _, _ = select.select([end, news.fileno(), usb.fileno()], [], [])
            if news.fileno() in ready and "READY=1" in _receive(news):
                host.write_boot("ready", leader)
            if usb.fileno() in ready:
                usb.recv(4096)
                _follow(host, leader)
            if end in ready:
                return
    finally:
        os.close(end)


def _follow(host: Host, leader: int) -> None:
    """Bring the host's ports up to date; a board that changes again meanwhile makes that fail, so once more then."""
    for _ in range(_ATTEMPTS):
        try:
            with host.lock():
                plug.plug(host.layout, leader, [board for board in host.boards if board.wanted])
            return
        except (LabError, OSError) as error:
            print(f"ports of {host.name}: {error}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE)


def _listen(host: Host) -> socket.socket:
    """The socket at which boards say that their USB device has changed."""
    path = news_socket(host.layout, host.name)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    return listener


def _start_container(host: Host, notify: Path) -> "subprocess.Popen[bytes]":
    netns = f"/run/netns/{host.layout.netns(host.name)}"
    command = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={host.root}",
        f"--machine={host.machine}",
        f"--hostname={host.name}",
        f"--network-namespace-path={netns}",
        f"--bind-ro={host.directory / 'lines'}:/run/fleetflash-lines",
        f"--bind-ro={clock.directory(host.directory)}:{clock.INSIDE}",
        f"--bind={durable.directory(host.directory)}:{durable.INSIDE}",
        # There may be no machined or systemd outside, and nothing of this machine shall leak in.
        "--register=no",
        "--keep-unit",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--notify-ready=yes",
        "--kill-signal=SIGRTMIN+3",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "SYSTEMD_NSPAWN_LOCK": "0",
        "NOTIFY_SOCKET": str(notify),
    }
    groups = cgroup.create(host.cgroup)
    with open(host.directory / "console.log", "ab") as console:
        return subprocess.Popen(
            process.inside(groups, command),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def _receive(news: socket.socket) -> list[str]:
    """The next notification, or nothing for a short while: the host may end without one."""
    news.settimeout(0.2)
    try:
        return news.recv(4096).decode().splitlines()
    except TimeoutError:
        return []


def _leader(news: socket.socket, container: "subprocess.Popen[bytes]") -> int:
    while container.poll() is None:
        for line in _receive(news):
            key, _, value = line.partition("=")
            if key == "X_NSPAWN_LEADER_PID":
                return int(value)
    raise LabError(f"systemd-nspawn exits {container.returncode}; see console.log")


def _wait_for_systemd(leader: int) -> None:
    """Wait until the container's first process has become systemd: by then its /dev and /sys are final."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{leader}/comm").read_text().strip() == "systemd":
                return
        except OSError:
            raise LabError("the host ended before its systemd started") from None
        time.sleep(0.005)
    raise LabError("the host's systemd does not start")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
