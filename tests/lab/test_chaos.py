"""Twenty printers at once, three random faults each: every printer comes back, on one of its two firmwares.

One seed with few printers by default; ten seeds and twenty printers with FLEETFLASH_MATRIX=full (make test-full).
"""

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from fleetflash.lab.errors import LabError
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import BoardSpec, HostSpec, board_uid
from tests.lab.conftest import full_only, lab_name, require_lab
from tests.lab.fleet import (
    FACTORY,
    WANTED,
    Fleet,
    flash_holds,
    journal,
    mcu_version,
    outcome,
    wait_outcome,
    wait_settled,
)
from tests.lab.matrix import BOARD_FAULTS, POINTS

pytestmark = pytest.mark.lab

FULL = os.environ.get("FLEETFLASH_MATRIX") == "full"
SEEDS = [int(seed) for seed in os.environ.get("FLEETFLASH_SEEDS", "").split()] or list(range(1, 11 if FULL else 2))
PRINTERS = 20 if FULL else 5
BOARD = "bmcu"
#: No run may take longer than this, in seconds.
PATIENCE = 400.0


@dataclass(frozen=True)
class Blow:
    """A fault of the board that waits for its command, or (``after`` seconds) one of the host."""

    kind: str
    fields: tuple[tuple[str, Any], ...] = ()
    after: float = 0.0


def draw(random_: random.Random) -> Blow:
    kind = random_.choice(["board", "board", "boot", "host"])
    if kind == "board":
        command, byte = random_.choice(POINTS)
        return Blow(random_.choice(BOARD_FAULTS), (("command", command), ("byte", byte)))
    if kind == "boot":
        fault = random_.choice(["refuse_bootloader", "boot_loop", "other_version"])
        return Blow(fault, () if fault == "refuse_bootloader" else (("version", WANTED),))
    fault = random_.choice(["agent", "session", "power", "power of all", "cable", "link", "start"])
    return Blow(fault, after=round(random_.uniform(2.0, 10.0 + 1.5 * PRINTERS), 1))


def strike(host: Host, blow: Blow) -> None:
    """What befalls a host; one that is off at that moment is spared."""
    if host.phase != "ready":
        return
    print(f"{time.time() % 1000:.1f} {host.name}: {blow}", file=sys.stderr)
    if blow.kind == "agent":
        host.run("sudo systemctl kill -s KILL fleetflash.service")
    elif blow.kind == "session":
        host.run("sudo pkill -KILL -f '^sshd: pi'")
    elif blow.kind.startswith("power"):
        host.crash(keep_boards=blow.kind == "power")
        time.sleep(1.0)
        host.start()
    elif blow.kind == "cable":
        host.unplug(BOARD)
        time.sleep(2.0)
        host.plug(BOARD)
    elif blow.kind == "link":
        host.link.cut()
        time.sleep(8.0)
        host.link.restore()
    elif blow.kind == "start":
        host.run("sudo systemctl start --no-block klipper")


def suffer(host: Host, blows: list[Blow], end: threading.Event) -> str:
    """Deal a host its blows and give its board back the power that it loses; return what the lab could not do."""
    started = time.monotonic()
    problem = ""
    waiting = sorted((blow for blow in blows if blow.after), key=lambda blow: blow.after)
    while not end.is_set():
        try:
            if waiting and time.monotonic() > started + waiting[0].after:
                strike(host, waiting.pop(0))
            if host.board(BOARD).running and host.board(BOARD).control.status()["mode"] == "off":
                host.board(BOARD).control.power(True)
        except (LabError, OSError) as error:
            problem = str(error)
        time.sleep(0.2)
    return problem


def what_is_wrong(fleet: Fleet, host: Host, blows: list[Blow]) -> str:
    """Judge a host at rest: what its outcome says, what its board holds and runs, and what was left."""
    if host.phase == "off":
        host.start()
    host.wait_ssh()
    host.board(BOARD).control.ask("clear_faults")
    wait_settled(host, 180.0)
    if host.run("ls /var/lib/fleetflash/transactions/*/").returncode:
        result = "untouched"  # it lost its power before the transaction had begun
    else:
        wait_outcome(host, 180.0)
        result = str(outcome(host)["boards"].get(BOARD, {}).get("result", "untouched"))
    if result == "needs-attention":
        return f"needs attention: {outcome(host)['detail']}"
    if any(blow.kind == "cable" for blow in blows):
        # Pulled before or after the transaction, it has klippy shut down, and a person has to restart it.
        host.run("sudo systemctl restart klipper", check=True)
    try:
        host.wait_klippy("ready", 90.0)
    except LabError as error:
        steps = " · ".join(f"{entry['time'] % 1000:.1f} {entry['step']}" for entry in journal(host))
        said = host.run("grep -a 'communication\\|shutdown' ~/printer_data/logs/klippy.log | tail -n 2").stdout
        return f"{error}; {outcome(host)['outcome']}; {steps}; {said}"
    expected = WANTED if result == "flashed" else FACTORY
    if mcu_version(host) != expected:
        return f"{result}, but runs {mcu_version(host)}"
    if not flash_holds(host, BOARD, fleet.lab.image(expected).read_bytes()):
        return f"{result}, but the flash does not hold {expected}"
    left = host.run(
        "ls /run/fleetflash/busy /etc/systemd/system/*fleetflash* /run/systemd/system/klipper.service.d"
    ).stdout
    return f"left behind: {left}" if left else ""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Printers with one board each."""
    require_lab()
    name, subnet = lab_name()
    names = [f"farm-{number}" for number in range(1, PRINTERS + 1)]
    hosts = [HostSpec(host, (BoardSpec(BOARD, uid=board_uid(host, BOARD)),)) for host in names]
    # Beside the other tests' fleet, which is up for as long as the session.
    network, _, number = subnet.rpartition(".")
    with Lab.up(f"{name}-farm", hosts, f"{network}.{int(number) + 1}", wait_klippy=120.0) as lab:
        yield Fleet(lab, tmp_path_factory.mktemp("farm"))


@full_only
@pytest.mark.parametrize("seed", SEEDS)
def test_every_printer_survives_three_random_faults(farm: Fleet, seed: int) -> None:
    random_ = random.Random(seed)
    hosts = farm.lab.hosts
    farm.reset(*hosts)
    blows = {host.name: [draw(random_) for _ in range(3)] for host in hosts}
    for host in hosts:
        for blow in blows[host.name]:
            if not blow.after:
                host.board(BOARD).control.ask("fault", kind=blow.kind, **dict(blow.fields))
    end = threading.Event()
    with ThreadPoolExecutor(2 * len(hosts)) as pool:
        suffering = [pool.submit(suffer, host, blows[host.name], end) for host in hosts]
        try:
            run = farm.pyinfra(farm.write_inventory(), patience=PATIENCE)
        finally:
            end.set()
        assert [future.result() for future in suffering] == [""] * len(hosts)
        wrong = list(pool.map(lambda host: what_is_wrong(farm, host, blows[host.name]), hosts))
    found = ["wrong" if problem else mcu_version(host) for host, problem in zip(hosts, wrong, strict=True)]
    print(f"seed {seed}: {len(hosts)} printers, 3 faults each: {dict(Counter(found))}", file=sys.stderr)
    assert [
        f"{host.name}: {problem}, after {blows[host.name]}"
        for host, problem in zip(hosts, wrong, strict=True)
        if problem
    ] == []
    assert "Traceback" not in run.output
    again = farm.pyinfra(farm.write_inventory(), patience=PATIENCE)
    assert again.code == 0, again.output
    assert [mcu_version(host) for host in hosts] == [WANTED] * len(hosts)
