"""Carries out a cell of the fault matrix on a host of the lab and says what was wrong with what came of it."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from fleetflash.lab.host import Host
from tests.lab.fleet import (
    FACTORY,
    WANTED,
    Fleet,
    flash_holds,
    mcu_version,
    outcome,
    strike,
    wait_outcome,
    wait_settled,
)
from tests.lab.matrix import COMMITTED, RESTORED, UNTOUCHED, Cell

#: No run may take longer than this, in seconds.
PATIENCE = 150.0
SIGNALS = {
    "controller-SIGKILL": signal.SIGKILL,
    "controller-SIGINT": signal.SIGINT,
    "controller-SIGTERM": signal.SIGTERM,
}
#: Called with the fleet, the host, the run, its inventory and a list for what goes wrong.
Strike = Callable[[Fleet, Host, "subprocess.Popen[str]", Any, list[str]], None]
OUTCOMES = {"committed": COMMITTED, "restored": RESTORED, "failed": UNTOUCHED, "refused": UNTOUCHED}


def run_cell(fleet: Fleet, host: Host, cell: Cell) -> str:
    """Return what is wrong, or an empty string. The host is left healthy, on either firmware."""
    former = _make_healthy(fleet, host)
    wanted = WANTED if former == FACTORY else FACTORY
    control = host.board("bmcu").control
    data = fleet.describe(host, bmcu={"firmware_version": wanted, "placement": cell.placement})
    inventory = fleet.write_inventory(host.name, **{host.name.replace("-", "_"): data})
    if cell.fault in _STRIKES:
        problem = _strike_host(fleet, host, cell, inventory)
    else:
        control.ask("fault", kind=cell.fault, command=cell.command, byte=cell.byte, count=cell.count)
        problem = _finish(host, fleet.start_pyinfra(inventory), repower=cell.fault == "power_cut")
        control.ask("clear_faults")
    return problem or _judge(fleet, host, cell.expected, former, wanted)


def _judge(fleet: Fleet, host: Host, expected: str, former: str, wanted: str) -> str:
    """Compare a host at rest with what was written down."""
    wait_settled(host)
    wait_outcome(host)
    came = str(outcome(host)["outcome"])
    if OUTCOMES.get(came, came) != expected:
        return f"expected {expected}, came {came}: {outcome(host)['detail']}"
    try:
        host.wait_klippy("ready", 60.0)
    except Exception as error:
        return f"Klipper is not back: {error}"
    version = wanted if expected == COMMITTED else former
    if mcu_version(host) != version:
        return f"runs {mcu_version(host)}, expected {version}"
    if not flash_holds(host, "bmcu", fleet.lab.image(version).read_bytes()):
        return f"the flash does not hold {version}"
    left = host.run(
        "ls /run/fleetflash/busy /etc/systemd/system/*fleetflash* /run/systemd/system/klipper.service.d"
    ).stdout
    if left:
        return f"left behind: {left}"
    if host.run("ls /var/lib/fleetflash/images/*.bin").returncode:
        return "the way back is gone"
    return ""


def _make_healthy(fleet: Fleet, host: Host) -> str:
    """Return the version that the host runs, after bringing it to the factory's if it isn't well."""
    try:
        host.board("bmcu").control.ask("clear_faults")
        host.wait_klippy("ready", 5.0)
        version = mcu_version(host)
        if (
            version in (FACTORY, WANTED)
            and host.run("test ! -e /var/lib/fleetflash/attention/bmcu.json").returncode == 0
        ):
            return version
    except Exception:
        pass
    fleet.reset(host)
    return FACTORY


def _finish(host: Host, run: "subprocess.Popen[str]", repower: bool = False) -> str:
    """Wait for a run; give a board that lost its power its power back."""
    deadline = time.monotonic() + PATIENCE
    while run.poll() is None:
        if time.monotonic() > deadline:
            run.kill()
            return "hangs"
        if repower and host.board("bmcu").control.status()["mode"] == "off":
            time.sleep(0.5)
            host.board("bmcu").control.power(True)
        time.sleep(0.1)
    run.communicate()
    return ""


def _strike_host(fleet: Fleet, host: Host, cell: Cell, inventory: Any) -> str:
    run = fleet.start_pyinfra(inventory)
    notes: list[str] = []
    strike(host, "bmcu", cell.command, cell.byte, lambda: _STRIKES[cell.fault](fleet, host, run, inventory, notes))
    problem = _finish(host, run)
    if cell.fault == "power-cut":
        host.start()
    if cell.fault == "moonraker-stopped":
        host.run("sudo systemctl start moonraker", check=True)
    return problem or "; ".join(notes)


def _kill_agent(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    host.run("sudo systemctl kill -s KILL fleetflash.service")


def _cut_power(fleet: Fleet, host: Host, run: "subprocess.Popen[str]", inventory: Any, notes: list[str]) -> None:
    host.crash(keep_boards=True)
    run.kill()


def _kill_session(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    host.run("sudo pkill -KILL -f '^sshd: pi'")


def _second(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    """Another controller wants the same host; it looks on, and must not disturb."""

    def look() -> None:
        plan = fleet.plan(inventory)
        if "is running" not in plan.output:
            notes.append(f"a second controller did not see the first: {plan.output}")

    threading.Thread(target=look, daemon=True).start()


def _start_klipper(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    host.run("sudo systemctl start --no-block klipper")


def _stop_moonraker(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    host.run("sudo systemctl kill -s KILL moonraker; sudo systemctl stop --no-block moonraker")


def _cut_link(fleet: Fleet, host: Host, run: Any, inventory: Any, notes: list[str]) -> None:
    host.link.cut()
    threading.Timer(45.0, host.link.restore).start()


def _sender(number: signal.Signals) -> Strike:
    def send(fleet: Fleet, host: Host, run: "subprocess.Popen[str]", inventory: Any, notes: list[str]) -> None:
        run.send_signal(number)

    return send


_STRIKES: dict[str, Strike] = {
    "agent-killed": _kill_agent,
    "power-cut": _cut_power,
    "session-killed": _kill_session,
    "link-cut": _cut_link,
    "second-controller": _second,
    "klipper-started-by-hand": _start_klipper,
    "moonraker-stopped": _stop_moonraker,
    **{name: _sender(number) for name, number in SIGNALS.items()},
}
