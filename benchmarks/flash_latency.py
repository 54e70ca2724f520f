"""What distance costs: every programmer, beside the port and from here, over links of 0.2, 20 and 80 ms.

    sudo .venv/bin/python benchmarks/flash_latency.py [--quick] [--programmer stk500] [--rtt 80]

One host of the lab (docs/lab.md) with a board of each kind stands behind a delayed TCP port that counts round trips.
``host`` and ``controller`` are the placements of a board in a transaction; ``rfc2217`` is the same protocol code over
pyserial's stock server and client, whose connection is neither encrypted nor locked. esptool is its own command line.
"whole" is what the person waits, from the connected link to the outcome; "written" is write and verify alone, and
"x line" what that is of the time that the line and the flash need for it. Ends with each bound of the design and
whether it is kept; the exit code is 1 when one is not.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import esptool_jobs
import rfc2217_port
import serial
from bench_lab import BENCHES, Bench, flash, lab, ssh_config
from bounds import Bounds
from delayed_link import DelayedLink

from fleetflash.agent.protocols.programmer import Target
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.lab.host import Host
from fleetflash.link import pyserial_hook
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import connect

SMALL, LARGE = 4 * 1024, 12 * 1024
#: An application of 1.3 MiB, and the rate at which ESP boards are written when nobody says another.
ESP_SIZE = 1331 * 1024
ESP_BAUD = 460_800
PLACEMENTS = ("host", "controller", "rfc2217")
HEADER = f"{'programmer':11} {'placement':10} {'RTT/ms':>6} {'bytes':>8} {'whole/s':>8} {'written/s':>9}"
HEADER += f" {'x line':>6} {'round trips':>11}"


@dataclass(frozen=True)
class Row:
    programmer: str
    placement: str
    rtt: float
    size: int
    whole: float
    written: float
    line: float
    trips: int

    def __str__(self) -> str:
        return (
            f"{self.programmer:11} {self.placement:10} {self.rtt:6g} {self.size:8} {self.whole:8.2f} "
            f"{self.written:9.2f} {self.written / self.line:6.2f} {self.trips:11}"
        )


class Measurement:
    """``ssh``, ``telnet``: the delayed links to the host's sshd and to its RFC 2217 server."""

    def __init__(self, host: Host, ssh: DelayedLink, telnet: DelayedLink, directory: Path) -> None:
        self.host, self.ssh, self.telnet = host, ssh, telnet
        self.config = ssh_config(directory, host, ssh.port)
        self.image_path = directory / "app.bin"
        self.rows: list[Row] = []

    def device(self, name: str) -> str:
        device = self.host.port(name)
        assert device is not None, f"{name} is not plugged in"
        return device

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(row, flush=True)

    def row(self, programmer: str, placement: str, rtt: float, size: int) -> Row:
        return next(
            row
            for row in self.rows
            if (row.programmer, row.placement, row.rtt, row.size) == (programmer, placement, rtt, size)
        )

    # Programmers of ours

    def transaction(self, bench: Bench, placement: str, rtt: float, size: int) -> None:
        image = bench.image(size)
        device = self.device(bench.name)
        self.ssh.round_trip = rtt / 1000
        with connect(self.host.name, ssh_config=self.config) as connection:
            before = self.ssh.round_trips
            done = flash(connection, bench.described(device, image, placement), image)
            trips = self.ssh.round_trips - before
        line = bench.line_seconds(size)
        self.add(Row(bench.programmer, placement, rtt, size, done.whole, done.written, line, trips))

    def rfc2217(self, bench: Bench, rtt: float, size: int) -> None:
        image = bench.image(size)
        device = self.device(bench.name)
        board = bench.described(device, image)
        target = Target(board.flash_base, board.flash_offset, board.flash_size, board.baud)
        self.telnet.round_trip = rtt / 1000
        with rfc2217_port.server(self.host, device):
            started, before = time.perf_counter(), self.telnet.round_trips
            port = rfc2217_port.Rfc2217Port(self.telnet.port, board.baud)
            try:
                programmer = PROGRAMMERS[bench.programmer](port, target, _no_reopen)
                programmer.enter(board.entry, _nobody)
                programmer.probe()
                writing = time.perf_counter()
                programmer.write(image, _no_progress)
                programmer.verify(image, _no_progress)
                written = time.perf_counter() - writing
                programmer.reset()
            finally:
                port.close()
            whole, trips = time.perf_counter() - started, self.telnet.round_trips - before
        self.add(Row(bench.programmer, "rfc2217", rtt, size, whole, written, bench.line_seconds(size), trips))

    # The forwarded port

    def opening(self, rtt: float) -> int:
        """Round trips from the connected link to the open port."""
        self.ssh.round_trip = rtt / 1000
        with connect(self.host.name, ssh_config=self.config) as connection:
            before = self.ssh.round_trips
            with AgentSession(connection.transport, self.host.name, ["serve"]) as session:
                port = RemotePort.open(session, self.host.name, self.device("stk500"))
                trips = self.ssh.round_trips - before
                port.close()
        return trips

    def settings(self) -> tuple[int, int]:
        """Messages for a new baud rate, and for a new timeout, of a port that pyserial has opened by its URL."""
        pyserial_hook.register(serial)
        with serial.serial_for_url(self.url("stk500"), 115200, timeout=1) as port:
            with counted_messages() as sent:
                port.baudrate = 57600
            baud = len(sent)
            with counted_messages() as sent:
                port.timeout = 3
        return baud, len(sent)

    def url(self, name: str) -> str:
        return f"fleetflash://{self.host.name}{self.device(name)}?ssh_config={self.config}"

    def esptool(self, placement: str, rtt: float, size: int, baud: int) -> None:
        content = esptool_jobs.image(size)
        self.image_path.write_bytes(content)
        device, path = self.device("esp"), str(self.image_path)
        link = self.telnet if placement == "rfc2217" else self.ssh
        link.round_trip = rtt / 1000
        before = link.round_trips
        if placement == "host":
            done = esptool_jobs.beside_the_port(self.host, device, content, baud)
        elif placement == "controller":
            done = esptool_jobs.from_here(self.url("esp"), path, baud)
        else:
            with rfc2217_port.server(self.host, device):
                self.host.board("esp").control.press()
                done = esptool_jobs.from_here(f"rfc2217://127.0.0.1:{link.port}", path, baud, before="no-reset")
        trips, line = link.round_trips - before, esptool_jobs.line_seconds(content, baud)
        self.add(Row(_esptool(baud), placement, rtt, size, done.whole, done.written, line, trips))


def _esptool(baud: int) -> str:
    return f"esptool@{baud // 1000}k"


@contextmanager
def counted_messages() -> Iterator[list[Any]]:
    """Every message and piece of data that goes to an agent meanwhile."""
    sent: list[Any] = []
    original = AgentSession._send_bytes

    def send(session: AgentSession, data: bytes) -> None:
        sent.append(data)
        original(session, data)

    AgentSession._send_bytes = send  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        AgentSession._send_bytes = original  # type: ignore[method-assign]


def _nobody(gesture: str, seconds: float) -> None:
    raise RuntimeError(f"nobody is there to {gesture}")


def _no_reopen() -> Any:
    raise RuntimeError("the board left its port")


def _no_progress(done: int, total: int) -> None:
    pass


def measure(it: Measurement, arguments: argparse.Namespace) -> None:
    print(HEADER)
    for bench in (BENCHES[name] for name in arguments.programmer if name in BENCHES):
        for rtt in arguments.rtt:
            far = rtt == max(arguments.rtt)
            it.transaction(bench, "host", rtt, SMALL)
            if far or not arguments.quick:
                it.transaction(bench, "host", rtt, LARGE)
            if not far or not arguments.quick:
                it.transaction(bench, "controller", rtt, SMALL)
            if not arguments.quick:
                it.rfc2217(bench, rtt, SMALL)
    if "esptool" in arguments.programmer:
        near, far = min(arguments.rtt), max(arguments.rtt)
        esptool_jobs.install(it.host)
        for baud in arguments.esptool_baud:
            for placement, rtts in (("host", [near]), ("controller", [near, far]), ("rfc2217", [near, far])):
                for rtt in rtts:
                    it.esptool(placement, rtt, arguments.esptool_size, baud)


def judge(it: Measurement, arguments: argparse.Namespace) -> Bounds:
    """Compare what was measured with the bounds; those whose figures were not asked for are left out."""
    bounds = Bounds()
    near, far = min(arguments.rtt), max(arguments.rtt)
    for name in [name for name in arguments.programmer if name in BENCHES]:
        small, large = (it.row(name, "host", far, size) for size in (SMALL, LARGE))
        growth = large.trips - small.trips
        bounds.at_most(f"{name}, host: round trips of {LARGE} bytes over those of {SMALL}", growth, 0)
        if near < far:
            later = small.whole - it.row(name, "host", near, SMALL).whole
            label = f"{name}, host: t({far:g} ms) - t({near:g} ms) in round trips"
            bounds.at_most(label, later / (far / 1000), 20, f"{later:.2f} s")
    bounds.at_most("opening a forwarded port: round trips", it.opening(far), 3)
    baud, timeout = it.settings()
    bounds.at_most("a new baud rate: messages", baud, 1)
    bounds.at_most("a new timeout: messages", timeout, 1)
    for row in [row for row in it.rows if row.programmer.startswith("esptool") and row.placement == "controller"]:
        local = it.row(row.programmer, "host", near, row.size)
        if row.rtt == near:
            label = f"{row.programmer}, {near:g} ms: whole job over the same on a local port"
            bounds.at_most(label, row.whole / local.whole, 1.1, f"{row.whole:.1f} / {local.whole:.1f} s")
            continue
        label = f"{row.programmer}, {row.rtt:g} ms: whole job over its bytes' time on the line"
        detail = f"{row.whole:.1f} / {row.line:.1f} s"
        if row.programmer == _esptool(ESP_BAUD):
            bounds.at_most(label, row.whole / row.line, 2.2, detail)
        else:
            # What esptool asks for before and between its blocks stays as it is when the line gets faster.
            bounds.note(f"{label}: {row.whole / row.line:.3g}  ({detail}, {row.trips} round trips)")
    return bounds


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*BENCHES, "esptool"]
    parser.add_argument("--programmer", action="append", choices=names, help="default: all")
    parser.add_argument("--rtt", action="append", type=float, metavar="MS", help="default: 0.2, 20 and 80")
    parser.add_argument("--quick", action="store_true", help="what the bounds of our own programmers need: a minute")
    parser.add_argument("--esptool-size", type=int, default=ESP_SIZE, metavar="BYTES", help="default: %(default)s")
    parser.add_argument("--esptool-baud", type=int, action="append", metavar="BIT/S", help="default: 460800 and 921600")
    arguments = parser.parse_args()
    arguments.programmer = arguments.programmer or (list(BENCHES) if arguments.quick else names)
    arguments.rtt = arguments.rtt or ([0.2, 80.0] if arguments.quick else [0.2, 20.0, 80.0])
    arguments.esptool_baud = arguments.esptool_baud or [ESP_BAUD, 2 * ESP_BAUD]
    return arguments


def main() -> int:
    arguments = read_arguments()
    boards = [(bench.name, bench.kind) for bench in BENCHES.values()] + [("esp", "esp32")]
    with (
        tempfile.TemporaryDirectory() as directory,
        lab(1, boards) as [host],
        DelayedLink((host.address, 22)) as ssh,
        DelayedLink((host.address, rfc2217_port.TCP_PORT)) as telnet,
    ):
        it = Measurement(host, ssh, telnet, Path(directory))
        measure(it, arguments)
        bounds = judge(it, arguments)
    print(f"\nload average of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(bounds)
    return 0 if bounds.kept else 1


if __name__ == "__main__":
    sys.exit(main())
