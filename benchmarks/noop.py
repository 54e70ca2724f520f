"""What a run costs that has nothing to do: ``deploys/flash.py`` and ``deploys/site.py`` over a farm that is converged.

    sudo .venv/bin/python benchmarks/noop.py [--hosts 40] [--rounds 3] [--ansible-rounds 1]

Bare hosts of the lab with a board each are brought to Klipper, Moonraker and a flashed board by ``deploys/site.py``.
Then each round runs, one after the other, ``pyinfra INVENTORY exec -- true`` (the least that any run over these hosts
costs), ``deploys/flash.py`` and ``deploys/site.py``; some rounds also the playbook in ``benchmarks/ansible``, which
says the same as ``deploys/site.py`` without builds and boards. Bounds are the medians' ratios. Hosts, klippys,
Moonrakers and boards share this machine with the controller.

"ctl" is the controller: processor time of its processes (without daemons, such as Ansible's SSH masters) and the most
memory that they held at once. "host CPU" is what a run costs a host beyond what it needs idle, its sshd included;
"execs" are SSH sessions of a host, counted by sshd. At the end, one host is stripped and installed by Ansible: it
must be the same as before, and ``deploys/site.py`` must find nothing to do. The exit code is 1 when a bound is not
kept.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ansible_site import AnsibleSite, recap
from bounds import Bounds
from farm import Farm, lab, strip
from host_state import differences, state_of
from measured import Hosts, Measured

from tests.lab.fleet import ROOT, Run
from tests.lab.site import changes

EXEC, FLASH, SITE, ANSIBLE = "exec -- true", "flash.py", "site.py", "ansible-playbook"
#: How many times the wall time of ``exec -- true`` each may take.
LIMITS = {FLASH: 2.0, SITE: 6.0}
READY_SECONDS = 300.0


@dataclass
class Series:
    """All runs of one command."""

    name: str
    runs: list[Measured] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    def __str__(self) -> str:
        middle = {
            name: statistics.median(getattr(run, name) for run in self.runs)
            for name in ("processor", "memory", "host_processor")
        }
        spread = f"{min(run.seconds for run in self.runs):.1f}–{max(run.seconds for run in self.runs):.1f}"
        fewest, most = next(run.execs for run in self.runs if run.execs)
        execs = f"{fewest}" if fewest == most else f"{fewest}–{most}"
        return (
            f"{self.name:17} {len(self.runs):4} {self.seconds:7.1f} {spread:>13} {execs:>6} "
            f"{middle['host_processor']:10.2f} {middle['processor']:9.1f} {middle['memory'] / 2**20:10.0f}"
        )


def measure(farm: Farm, hosts: Hosts, ansible: AnsibleSite | None, rounds: int, ansible_rounds: int) -> list[Series]:
    """Run all commands in turns; raises ``RuntimeError`` when one of them fails or changes anything."""
    inventory = str(farm.write_inventory())
    pyinfra = [sys.executable, "-m", "pyinfra", inventory]
    commands = {
        EXEC: [*pyinfra, "-y", "exec", "--", "true"],
        FLASH: [*pyinfra, "-y", "deploys/flash.py"],
        SITE: [*pyinfra, "-y", "deploys/site.py"],
    }
    series = {name: Series(name) for name in commands}
    # The first run of all fills caches of files on hosts and controller.
    hosts.measure(commands[SITE], ROOT, farm.environment, False)
    for number in range(rounds):
        hosts.rest()
        for name, command in commands.items():
            series[name].runs.append(hosts.measure(command, ROOT, farm.environment, count=number == 0))
            _check(name, series[name].runs[-1], len(farm.inventory))
        if ansible is not None and number < ansible_rounds:
            run = hosts.measure(ansible.command(), ROOT, ansible.environment, count=number == 0)
            series.setdefault(ANSIBLE, Series(ANSIBLE)).runs.append(run)
            _check(ANSIBLE, run, len(farm.inventory))
    return list(series.values())


def _check(name: str, run: Measured, hosts: int) -> None:
    if name == ANSIBLE:
        done = recap(run.output)
        right = done.hosts == hosts and not done.changed and not done.failed
    elif name == EXEC:
        right = True
    else:
        right = f"{hosts} boards: {hosts} already current" in run.output
        right = right and (name != SITE or changes(Run(run.code, run.output)) == "-")
    if run.code or not right:
        raise RuntimeError(f"{name} exits {run.code} and has changed something, or not seen every host:\n{run.output}")


def same_state(farm: Farm, ansible: AnsibleSite) -> Iterator[str]:
    """Install one host with Ansible that fleetflash had installed; yield whatever is different."""
    host = farm.lab.hosts[-1]
    before = state_of(host)
    strip(host)
    ansible.run(host.name)
    host.wait_klippy("ready", READY_SECONDS)
    yield from differences(before, state_of(host))
    after = changes(Run(0, farm.converge(host.name)))
    if after != "-":
        yield f"deploys/site.py changes {after} operations after ansible-playbook"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--ansible-rounds", type=int, default=1, metavar="N", help="of them with Ansible, 0: without it (default: 1)"
    )
    return parser.parse_args()


def main() -> int:
    arguments, bounds = read_arguments(), Bounds()
    with tempfile.TemporaryDirectory(prefix="fleetflash-noop-") as directory, lab(arguments.hosts) as up:
        farm = Farm(up, Path(directory))
        ansible = AnsibleSite(farm) if arguments.ansible_rounds else None
        farm.converge()
        up.wait_klippy(READY_SECONDS)
        series = measure(farm, Hosts(up.hosts), ansible, arguments.rounds, arguments.ansible_rounds)
        print(f"{arguments.hosts} hosts; {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
        print(
            f"{'command':17} {'runs':>4} {'wall/s':>7} {'':>13} {'execs':>6} {'host CPU/s':>10} {'ctl CPU/s':>9} "
            f"{'ctl MiB':>10}"
        )
        print(*series, sep="\n", flush=True)
        base = series[0].seconds
        for found in series:
            if found.name in LIMITS:
                bounds.at_most(f"{found.name} over {EXEC}", found.seconds / base, LIMITS[found.name], "wall time")
            elif found.name == ANSIBLE:
                bounds.note(f"{ANSIBLE} takes {found.seconds / series[2].seconds:.1f} x the wall time of {SITE}")
        if ansible is not None:
            different = list(same_state(farm, ansible))
            if different:
                print(*different, sep="\n")
            bounds.at_most("differences between hosts of fleetflash and of Ansible", len(different), 0)
    print(bounds)
    return 0 if bounds.kept else 1


if __name__ == "__main__":
    sys.exit(main())
