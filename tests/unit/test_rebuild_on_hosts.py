"""What a host of the group ``builders`` has compiled is compiled there once more by ``fleetflash verify``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from test_build_hosts_deploy import Farm

pytestmark = needs_sshd


class Verified(Farm):
    """A farm of one builder, and of a host with a board that is pinned to what that has built."""

    def __init__(self, directory: Path, sshd: LoopbackSshd) -> None:
        super().__init__(directory, sshd)
        self.local, self.hosts = [], {"builder-1": self.reached}
        self.types = {"usual": self.fields(firmware="klipper-usual", kconfig={"MACH_atmega328p": True})}
        code, said = self.deploy()
        assert code == 0, said
        (self.artifact,) = self.store.find()

    def rebuild(self) -> tuple[dict[str, Any], int, str]:
        """Return the row, how often something was compiled, and what was said on the way."""
        answer = self.run("fleetflash", "verify", "farm.py", "--json")
        (row,) = [check for check in json.loads(answer.stdout)["checks"] if check["name"] == "rebuild"]
        return row, answer.stderr.count(": building"), answer.stderr

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        board = {"port": "/dev/none", "chip": "atmega328p", "programmer": "stk500", "firmware": "klipper-usual"}
        printer = {**self.reached, "boards": {"mcu": {**board, "firmware_version": self.artifact.version}}}
        (self.directory / "farm.py").write_text(
            f"klipper_hosts = [('desk', {printer!r})]\nbuilders = [*{self.hosts!r}.items()]\n"
        )
        environment = {
            "FLEETFLASH_STORE": str(self.directory / "store"),
            "FLEETFLASH_BUILD_CACHE": str(self.directory / "cache"),
        }
        answer = subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            cwd=self.directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in answer.stderr, answer.stderr
        return answer


@pytest.fixture
def farm(tmp_path: Path, sshd: LoopbackSshd) -> Verified:
    return Verified(tmp_path, sshd)


def test_build_of_a_host_is_repeated_there_and_nowhere_else(farm: Verified) -> None:
    assert farm.artifact.build["builder"] == "builder-1"
    row, times, said = farm.rebuild()
    assert (row["result"], row["expected"], row["found"]) == ("ok", *[farm.artifact.image_sha256[:12]] * 2), row
    assert times == 1 and "builder-1: " in said
    assert farm.left() == [] and len(farm.store.find()) == 1
    deployed = farm.run("pyinfra", "farm.py", "deploys/verify.py", "-y")
    (line,) = [line.split() for line in deployed.stdout.splitlines() if " rebuild " in line]
    assert line[-2:] == [row["found"], "ok"] and "builder-1: " in deployed.stderr


def test_builder_that_is_not_in_the_inventory_is_told_and_no_drift(farm: Verified) -> None:
    farm.hosts = {"builder-2": farm.reached}
    row, times, _ = farm.rebuild()
    assert (row["result"], times) == ("skipped", 0)
    assert row["detail"].startswith("builder-1 has compiled it, and this inventory has no builder-1")


def test_builder_that_does_not_answer_is_a_failed_check(farm: Verified) -> None:
    farm.hosts = {"builder-1": {**farm.reached, "ssh_port": 1}}
    row, times, _ = farm.rebuild()
    assert (row["result"], times) == ("failed", 0)
    assert row["detail"].startswith("builder-1: ") and "run again when it is back" in row["detail"]


def test_builder_with_another_compiler_is_told(farm: Verified) -> None:
    types = farm.directory / "group_data/builders.py"
    types.write_text(types.read_text().replace("'gcc-avr'", "'gcc-of-nobody'"))
    row, times, _ = farm.rebuild()
    assert (row["result"], times) == ("failed", 0)
    assert "board type usual: builder-1: toolchain avr" in row["detail"] and "gcc-of-nobody" in row["detail"]
