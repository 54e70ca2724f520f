"""Twenty printers at once: does each take as long as one alone, and what do they cost the controller?

    sudo .venv/bin/python benchmarks/flash_parallel.py [--hosts 20] [--programmer stm32_rom] [--size 32768]

Hosts of the lab with a board each, at 115200 bit/s, flashed beside their ports: first one, then all. Hosts, agents and
simulated boards share this machine with the controller, so their load is told with the result; the controller's
own processor time is its process's.
"""

import argparse
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_lab import BENCHES, Bench, Flashed, flash, lab
from bounds import Bounds

from fleetflash.lab.host import Host
from fleetflash.link.ssh import connect


def together(hosts: list[Host], bench: Bench, size: int) -> tuple[list[Flashed], float, float]:
    """Flash a board on each host at once; also seconds of the controller's processor, and of the whole."""
    images = [bench.image(size) for _ in hosts]
    connected = threading.Barrier(len(hosts) + 1)

    def one(host: Host, image: bytes) -> Flashed:
        device = host.port(bench.name)
        assert device is not None, f"{host.name}: {bench.name} is not plugged in"
        with connect(host.name, ssh_config=host.layout.ssh_config) as connection:
            connected.wait(60)
            return flash(connection, bench.described(device, image), image)

    with ThreadPoolExecutor(len(hosts)) as pool:
        futures = [pool.submit(one, host, image) for host, image in zip(hosts, images, strict=True)]
        connected.wait(60)
        started, before = time.perf_counter(), processor_seconds()
        done = [future.result() for future in futures]
        return done, processor_seconds() - before, time.perf_counter() - started


def processor_seconds() -> float:
    """Of this process and all its threads so far; the lab's hosts and boards are other processes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def span(done: list[Flashed]) -> float:
    """Seconds from the first erase of all to the last byte verified of all."""
    return max(board.ended for board in done) - min(board.began for board in done)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slow = [name for name in BENCHES if name in ("stm32_rom", "stk500")]
    parser.add_argument("--hosts", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--programmer", choices=slow, default="stm32_rom", help="both stay at 115200 bit/s")
    parser.add_argument(
        "--size", type=int, default=32 * 1024, metavar="BYTES", help="of the image; default: %(default)s"
    )
    return parser.parse_args()


def main() -> int:
    arguments = read_arguments()
    bench, bounds = BENCHES[arguments.programmer], Bounds()
    with lab(arguments.hosts, [(bench.name, bench.kind)]) as hosts:
        together(hosts, bench, 4096)  # every host gets its agent
        one, one_processor, one_whole = together(hosts[:1], bench, arguments.size)
        every, processor, whole = together(hosts, bench, arguments.size)
    share = 100 * processor / whole / len(every)
    print(f"{bench.programmer}, {arguments.size} bytes; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print(f"{'boards':>6} {'write + verify/s':>16} {'slowest/s':>9} {'whole/s':>8} {'controller/s':>12}")
    for done, total, own in ((one, one_whole, one_processor), (every, whole, processor)):
        slowest = max(board.written for board in done)
        print(f"{len(done):6} {span(done):16.2f} {slowest:9.2f} {total:8.2f} {own:12.2f}")
    ratio = span(every) / span(one)
    bounds.at_most(f"write + verify of {len(every)} boards over one", ratio, 1.3)
    bounds.at_most("controller per board, % of a core", share, 5, f"{processor:.2f} s of {whole:.1f} s")
    print(bounds)
    return 0 if bounds.kept else 1


if __name__ == "__main__":
    sys.exit(main())
