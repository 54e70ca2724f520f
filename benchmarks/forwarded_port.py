"""How much slower is a port behind SSH? 64 KiB to an echoing board and back, here and forwarded over loopback.

    .venv/bin/python benchmarks/forwarded_port.py

A pseudo-terminal has no line delay, so this is the cost of the software alone. "Windowed" keeps 4 KiB on their way,
"one by one" waits for each 56 bytes, as WCH ISP and Katapult do. Needs openssh-server.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/unit"))

from loopback_ssh import LoopbackSshd
from pseudo_terminal import PseudoTerminal

from fleetflash.agent.port import Port
from fleetflash.agent.ports import SerialPort
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import connect

SIZE = 64 * 1024
RUNS = 7


def windowed(port: Port) -> None:
    for _ in range(SIZE // 2048 // 2):
        port.write(bytes(2048))
        port.write(bytes(2048))
        assert len(port.read(4096, 10)) == 4096


def one_by_one(port: Port) -> None:
    for _ in range(SIZE // 56):
        port.write(bytes(56))
        assert len(port.read(56, 10)) == 56


def measure(port: Port, work: Callable[[Port], None]) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work(port)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextmanager
def local(path: str, _: LoopbackSshd) -> Iterator[Port]:
    port = SerialPort.open(path)
    yield port
    port.close()


@contextmanager
def forwarded(path: str, sshd: LoopbackSshd, background: bool = False) -> Iterator[Port]:
    with (
        connect("printer", ssh_config=sshd.config) as connection,
        AgentSession(connection.transport, "printer", ["serve"]) as session,
    ):
        port = RemotePort.open(session, "printer", path, background=background)
        yield port
        port.close()


@contextmanager
def pyserial_like(path: str, sshd: LoopbackSshd) -> Iterator[Port]:
    with forwarded(path, sshd, background=True) as port:
        yield port


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, LoopbackSshd(Path(directory)) as sshd:
        started = time.perf_counter()
        with connect("printer", ssh_config=sshd.config) as connection:
            connected = time.perf_counter()
            with AgentSession(connection.transport, "printer", ["serve"]):
                print(f"connect {connected - started:.2f} s, agent {time.perf_counter() - connected:.2f} s")
        for work in (windowed, one_by_one):
            base = 0.0
            for way in (local, forwarded, pyserial_like):
                with PseudoTerminal() as terminal:
                    terminal.echo()
                    with way(terminal.path, sshd) as port:
                        seconds = measure(port, work)
                base = base or seconds
                name = f"{work.__name__.replace('_', ' ')}, {way.__name__.replace('_', ' ')}"
                print(f"{name:32} {seconds * 1000:8.1f} ms  {SIZE / seconds / 1e6:6.2f} MB/s  x {seconds / base:.2f}")


if __name__ == "__main__":
    main()
