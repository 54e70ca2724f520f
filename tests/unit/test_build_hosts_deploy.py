"""``deploys/build.py`` spreads the board types over this computer and hosts, and builds each of them once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from loopback_ssh import LoopbackSshd, needs_sshd
from test_build_builder import TOOLCHAINS
from test_build_hosts import HostProject

from fleetflash.firmware.store import Store

ROOT = Path(__file__).parents[2]


@needs_sshd
def test_types_are_spread_over_the_builders_and_a_second_run_changes_nothing(
    tmp_path: Path, sshd: LoopbackSshd
) -> None:
    project = HostProject(tmp_path, sshd)
    for folder in ("deploys", "roles"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    reached = {
        "ssh_hostname": "127.0.0.1",
        "ssh_port": sshd.port,
        "ssh_user": sshd.user,
        "ssh_key": str(sshd.directory / "user_key"),
        "ssh_known_hosts_file": str(sshd.known_hosts),
        "build_directory": str(project.there),
    }
    hosts = {"builder-1": reached, "builder-2": reached}
    types = {
        name: project.fields(firmware=f"klipper-{name}", kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": baud})
        for name, baud in (("slow", 38400), ("usual", 115200), ("fast", 500000), ("fastest", 1000000))
    }
    data = tmp_path / "group_data/builders.py"
    data.parent.mkdir()

    def deploy(how: str = "-y") -> "subprocess.CompletedProcess[str]":
        (tmp_path / "inventory.py").write_text(f"builders = ['@local', *{hosts!r}.items()]\n")
        data.write_text(f"toolchains = {TOOLCHAINS!r}\nbuild_cache = 'cache'\nboard_types = {types!r}\n")
        pyinfra = Path(sys.executable).with_name("pyinfra")
        return subprocess.run(
            [pyinfra, "inventory.py", "deploys/build.py", how],
            cwd=tmp_path,
            env={**os.environ, "FLEETFLASH_STORE": str(tmp_path / "store")},
            capture_output=True,
            text=True,
        )

    shown = deploy("--dry")
    assert shown.returncode == 0 and "building" not in shown.stderr, shown.stderr
    first = deploy()
    assert first.returncode == 0, first.stderr
    told = [line.strip() for line in first.stderr.splitlines() if ": building v0.2.0-0-g" in line]
    who = sorted((line.partition("]")[0].strip("["), line.partition("]")[2].split(":")[0].strip()) for line in told)
    assert who == [("@local", "fastest"), ("@local", "slow"), ("builder-1", "usual"), ("builder-2", "fast")]
    names = [artifact.name for artifact in Store(tmp_path / "store").find()]
    assert names == ["klipper-fast", "klipper-fastest", "klipper-slow", "klipper-usual"]
    second = deploy()
    assert second.returncode == 0 and second.stderr.count("No changes") == 4 and "building" not in second.stderr
    assert project.left() == []
    # One lacks the compiler, and at the other nobody listens: what fell to them falls to who is left.
    hosts["builder-1"] = {**reached, "toolchains": {"avr": {"version": "5", "debian": {"gcc-of-nobody": "*"}}}}
    hosts["builder-2"] = {**reached, "ssh_port": 1}
    types["fast"]["kconfig"]["SERIAL_BAUD"] = 230400
    without = deploy()
    assert "builder-2] Could not connect" in without.stderr and "Traceback" not in without.stderr
    assert without.stderr.count(": building v0.2.0-0-g") == 1 and without.stderr.count("No changes") == 3
    assert "[@local]    fast: building" in without.stderr
    types["usual"]["kconfig"] = {"SERIAL_BAUD": 115200}
    third = deploy()
    assert third.returncode != 0 and "Traceback" not in third.stderr
    assert "board type usual: Kconfig does not accept what was asked for: CONFIG_SERIAL_BAUD" in third.stderr
