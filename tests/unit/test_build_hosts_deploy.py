"""``deploys/build.py`` spreads the board types over this computer and hosts, and builds each of them once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from test_build_builder import TOOLCHAINS
from test_build_hosts import HostProject, slow_version, until

from fleetflash.firmware.store import Store

ROOT = Path(__file__).parents[2]


pytestmark = needs_sshd


class Farm(HostProject):
    """A project's folder with the deploys, and an inventory of this computer and two hosts."""

    def __init__(self, directory: Path, sshd: LoopbackSshd) -> None:
        super().__init__(directory, sshd)
        for folder in ("deploys", "roles"):
            shutil.copytree(ROOT / folder, directory / folder)
        self.reached: dict[str, Any] = {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": sshd.port,
            "ssh_user": sshd.user,
            "ssh_key": str(sshd.directory / "user_key"),
            "ssh_known_hosts_file": str(sshd.known_hosts),
            "build_directory": str(self.there),
        }
        self.local = ["@local"]
        self.hosts = {"builder-1": self.reached, "builder-2": self.reached}
        self.types: dict[str, dict[str, Any]] = {
            name: self.fields(firmware=f"klipper-{name}", kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": baud})
            for name, baud in (("slow", 38400), ("usual", 115200), ("fast", 500000), ("fastest", 1000000))
        }
        (directory / "group_data").mkdir()

    @property
    def store(self) -> Store:
        return Store(self.directory / "store")

    def start(self, how: str = "-y") -> "subprocess.Popen[str]":
        (self.directory / "inventory.py").write_text(f"builders = [*{self.local!r}, *{self.hosts!r}.items()]\n")
        (self.directory / "group_data/builders.py").write_text(
            f"toolchains = {TOOLCHAINS!r}\nbuild_cache = 'cache'\nboard_types = {self.types!r}\n"
        )
        return subprocess.Popen(
            [Path(sys.executable).with_name("pyinfra"), "inventory.py", "deploys/build.py", how],
            cwd=self.directory,
            env={**os.environ, "FLEETFLASH_STORE": str(self.directory / "store")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deploy(self, how: str = "-y") -> tuple[int, str]:
        """Run the stock command; returns its exit code and what it said."""
        process = self.start(how)
        said = process.communicate()[1]
        return process.returncode, said


@pytest.fixture
def farm(tmp_path: Path, sshd: LoopbackSshd) -> Farm:
    return Farm(tmp_path, sshd)


def test_types_are_spread_over_the_builders_and_a_second_run_changes_nothing(farm: Farm) -> None:
    code, said = farm.deploy("--dry")
    assert code == 0 and "building" not in said, said
    code, said = farm.deploy()
    assert code == 0, said
    told = [line.strip() for line in said.splitlines() if ": building v0.2.0-0-g" in line]
    who = sorted((line.partition("]")[0].strip("["), line.partition("]")[2].split(":")[0].strip()) for line in told)
    assert who == [("@local", "fastest"), ("@local", "slow"), ("builder-1", "usual"), ("builder-2", "fast")]
    names = [artifact.name for artifact in farm.store.find()]
    assert names == ["klipper-fast", "klipper-fastest", "klipper-slow", "klipper-usual"]
    code, said = farm.deploy()
    assert code == 0 and said.count("No changes") == 4 and "building" not in said
    assert farm.left() == []


def test_what_fell_to_a_builder_that_can_not_falls_to_the_others(farm: Farm) -> None:
    """One lacks the compiler, and at the other nobody listens."""
    farm.hosts["builder-1"] = {
        **farm.reached,
        "toolchains": {"avr": {"version": "5", "debian": {"gcc-of-nobody": "*"}}},
    }
    farm.hosts["builder-2"] = {**farm.reached, "ssh_port": 1}
    farm.types["usual"]["kconfig"] = {"SERIAL_BAUD": 115200}
    code, said = farm.deploy()
    assert code and "builder-2] Could not connect" in said and "Traceback" not in said
    assert "board type usual: Kconfig does not accept what was asked for: CONFIG_SERIAL_BAUD" in said
    assert said.count("[@local]    slow: building") == 1 == said.count(": building")
    # A run ends for a host with its first error.
    del farm.types["usual"]
    assert farm.deploy()[1].count(": building") == 2 and len(farm.store.find()) == 3


def test_controller_that_is_killed_leaves_nothing_on_the_host_and_the_next_run_builds(farm: Farm) -> None:
    go = farm.directory / "go"
    farm.types = {"slow": farm.fields(ref=slow_version(farm, go).ref)}
    farm.local, farm.hosts = [], {"builder-1": farm.reached}
    controller = farm.start()
    until(lambda: any(log.read_text().count("Compiling") == 4 for log in farm.directory.glob("cache/logs/*.log")))
    assert len(farm.left()) == 2
    controller.kill()
    controller.communicate()
    try:
        until(lambda: farm.left() == [])
    finally:
        go.touch()
    code, said = farm.deploy()
    assert code == 0 and said.count(": building v0.3.0-0-g") == 1, said
    assert list(farm.directory.glob("cache/work/build-*")) == [] and len(farm.store.find()) == 1


def test_builders_work_at_the_same_time(farm: Farm) -> None:
    """None of the three builds can end before all of them have begun."""
    go = farm.directory / "go"
    ref = slow_version(farm, go).ref
    farm.types = {name: {**fields, "ref": ref} for name, fields in farm.types.items() if name != "fastest"}
    controller = farm.start()
    try:
        logs = farm.directory / "cache/logs"
        until(lambda: sum(log.read_text().count("Compiling") == 4 for log in logs.glob("*.log")) == 3)
    finally:
        go.touch()
        said = controller.communicate()[1]
    assert controller.returncode == 0 and len(farm.store.find()) == 3, said
