"""What strikes a host of the lab while its board pauses: one function a fault, and how the bench is readied and mended.

Every function gets a ``Scene``. A strike must return at once: the board goes on when it does.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleetflash.lab.host import Host
from tests.lab.fleet import Fleet

MONTH = 30 * 86400.0
CONFIG = "/home/pi/printer_data/config/printer.cfg"
KLIPPY = "/home/pi/klipper/klippy/klippy.py"
STATE = "/var/lib/fleetflash"
#: More than what a plan wants to see free, in MiB.
SMALL_DISK = 96


@dataclass
class Scene:
    """A run that is about to be struck. ``notes``: what went wrong beside the outcome; ``at``: when it was struck."""

    fleet: Fleet
    host: Host
    board: str
    run: "subprocess.Popen[str]"
    inventory: Path
    notes: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    at: float = 0.0

    def meanwhile(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act)
        thread.start()
        self.threads.append(thread)

    def strike(self, act: Callable[["Scene"], None]) -> None:
        """Strike now; ``at`` is of the clock that the host's journal has, too."""
        self.at = time.monotonic()
        act(self)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, act)
        timer.start()
        self.threads.append(timer)


Strike = Callable[[Scene], None]


def kill_agent(scene: Scene) -> None:
    scene.host.run("sudo systemctl kill -s KILL fleetflash.service")


def cut_power(scene: Scene) -> None:
    scene.host.crash(keep_boards=True)
    scene.run.kill()


def cut_power_of_all(scene: Scene) -> None:
    scene.host.crash()
    scene.run.kill()


def reboot(scene: Scene) -> None:
    scene.host.run("sudo systemctl reboot --no-block")


def unplug(scene: Scene) -> None:
    scene.host.unplug(scene.board)
    scene.later(5.0, lambda: scene.host.plug(scene.board))


def replug_elsewhere(scene: Scene) -> None:
    """The agent still holds the old device, so the kernel gives the board another."""
    scene.host.unplug(scene.board)
    scene.host.plug(scene.board, first=7)


def kill_session(scene: Scene) -> None:
    scene.host.run("sudo pkill -KILL -f '^sshd: pi'")


def stall_link(scene: Scene) -> None:
    scene.host.link.cut()
    scene.later(45.0, scene.host.link.restore)


def second_plan(scene: Scene) -> None:
    """Another controller wants the same host; it looks on, and must not disturb."""

    def look() -> None:
        plan = scene.fleet.plan(scene.inventory)
        if "is running" not in plan.output and "already current" not in plan.output:
            scene.notes.append(f"a second controller did not see the first: {plan.output}")

    scene.meanwhile(look)


def second_run(scene: Scene) -> None:
    """Another controller wants the same; it follows the first to its end, and finds nothing left to do."""

    def flash() -> None:
        run = scene.fleet.pyinfra(scene.inventory)
        followed = "of an earlier run: committed" in run.output
        if run.code or not (followed or "already current" in run.output):
            scene.notes.append(f"a second controller did not follow the first: {run.code}: {run.output}")

    scene.meanwhile(flash)


def start_klipper(scene: Scene) -> None:
    scene.host.run("sudo systemctl start --no-block klipper")


def open_port(scene: Scene) -> None:
    """Somebody's terminal program reads from the port, and would take the bootloader's answers away."""
    refused = scene.host.run(f"timeout 5 cat {scene.host.port(scene.board)}")
    if "busy" not in refused.stderr:
        scene.notes.append(f"a user could open the port: {refused.returncode} {refused.stderr}")


def stop_moonraker(scene: Scene) -> None:
    scene.host.run("sudo systemctl kill -s KILL moonraker; sudo systemctl stop --no-block moonraker")


def start_moonraker(host: Host) -> None:
    host.run("sudo systemctl start moonraker", check=True)


def stall_moonraker(scene: Scene) -> None:
    scene.host.run("sudo systemctl kill -s STOP moonraker", check=True)


def wake_moonraker(host: Host) -> None:
    host.run("sudo systemctl kill -s CONT moonraker", check=True)


def break_config(scene: Scene) -> None:
    scene.host.run(f"echo '[no such section]' >> {CONFIG}", check=True)


def mend_config(host: Host) -> None:
    host.run(f"sed -i '/no such section/d' {CONFIG} && sudo systemctl restart klipper", check=True)


def take_klippy_away(scene: Scene) -> None:
    scene.host.run(f"mv {KLIPPY} {KLIPPY}.away", check=True)


def bring_klippy_back(host: Host) -> None:
    host.run(f"mv {KLIPPY}.away {KLIPPY} && sudo systemctl restart klipper", check=True)


def make_disk_small(host: Host) -> None:
    """fleetflash's directory moves onto a disk of its own, which can be filled."""
    host.run(
        f"sudo mkdir -p {STATE} /run/disk && sudo mount -t tmpfs -o size={SMALL_DISK}m none /run/disk "
        f"&& sudo cp -a {STATE}/. /run/disk && sudo mount --bind /run/disk {STATE}",
        check=True,
    )


def fill_disk(scene: Scene) -> None:
    filled = scene.host.run(
        f"sudo dd if=/dev/zero of={STATE}/full bs=1M; sudo dd if=/dev/zero of={STATE}/fuller bs=4096; "
        f"sudo dd if=/dev/zero of={STATE}/fullest bs=1"
    )
    if filled.stderr.count("No space left") != 3:
        scene.notes.append(f"the disk did not get full: {filled.stderr}")


def restore_disk(host: Host) -> None:
    host.run(
        f"sudo rm {STATE}/full {STATE}/fuller {STATE}/fullest && sudo umount {STATE} && sudo rm -rf {STATE} "
        f"&& sudo cp -a /run/disk {STATE} && sudo umount /run/disk && sudo sync",
        check=True,
    )


def _sender(number: signal.Signals) -> Strike:
    return lambda scene: scene.run.send_signal(number)


STRIKES: dict[str, Strike] = {
    "agent-killed": kill_agent,
    "power-cut": cut_power,
    "power-cut-with-boards": cut_power_of_all,
    "host-reboots": reboot,
    "unplugged-for-5-s": unplug,
    "back-under-another-name": replug_elsewhere,
    "klippy-never-ready": break_config,
    "klipper-does-not-start": take_klippy_away,
    "session-killed": kill_session,
    "link-stalled": stall_link,
    "controller-SIGKILL": _sender(signal.SIGKILL),
    "controller-SIGINT": _sender(signal.SIGINT),
    "controller-SIGTERM": _sender(signal.SIGTERM),
    "second-controller-plans": second_plan,
    "second-controller-flashes": second_run,
    "klipper-started-by-hand": start_klipper,
    "port-opened-by-a-user": open_port,
    "moonraker-stopped": stop_moonraker,
    "moonraker-hangs": stall_moonraker,
    "disk-full": fill_disk,
    "clock-a-month-ahead": lambda scene: scene.host.jump_clock(MONTH),
    "clock-a-month-back": lambda scene: scene.host.jump_clock(-MONTH),
}
#: What a fault needs before the run, and what puts the host right before it is judged.
PREPARATIONS: dict[str, Callable[[Host], None]] = {"disk-full": make_disk_small}
REPAIRS: dict[str, Callable[[Host], None]] = {
    "power-cut": Host.start,
    "power-cut-with-boards": Host.start,
    "klippy-never-ready": mend_config,
    "klipper-does-not-start": bring_klippy_back,
    "moonraker-stopped": start_moonraker,
    "moonraker-hangs": wake_moonraker,
    "disk-full": restore_disk,
    "clock-a-month-ahead": lambda host: host.jump_clock(-MONTH),
    "clock-a-month-back": lambda host: host.jump_clock(MONTH),
}
