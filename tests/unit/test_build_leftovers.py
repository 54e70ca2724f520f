"""What builders that were killed have left is told and removed by ``deploys/recover.py``; living ones keep theirs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from test_build_hosts import slow_version, until
from test_build_hosts_deploy import Farm

from fleetflash.agent import build_space
from fleetflash.build.leftovers import sweep

#: Of an archive that is never unpacked to its end.
SHA256 = "a" * 64
#: Programs that come to a point where they hold something, say so, and stay there.
UNPACKING = f"""
import sys, time
from pathlib import Path
from fleetflash.agent import build_space

def fill(path):
    path.mkdir()
    (path / "half").write_bytes(b"half")
    print("there", flush=True)
    time.sleep(600)

with build_space.toolchain(Path(sys.argv[1]), {SHA256!r}, fill):
    pass
"""
BUILDING = """
import sys, time
from pathlib import Path
from fleetflash.agent import build_space

with build_space.workspace(Path(sys.argv[1])) as (directory, _):
    (directory / "klipper").mkdir()
    print("there", flush=True)
    time.sleep(600)
"""
FETCHING = f"""
import os, sys, time
from pathlib import Path
from fleetflash.build import toolchain_cache, workspace
from fleetflash.build.toolchain import Toolchain

def fetch(urls, sha256, path):
    path.write_bytes(b"half")
    with workspace.workspace(Path(sys.argv[1]) / "work"):
        print("there", flush=True)
        time.sleep(600)

toolchain_cache.fetch = fetch
archives = {{os.uname().machine: {{"urls": "file:///none", "sha256": {SHA256!r}}}}}
wanted = Toolchain.model_validate({{"name": "gcc", "version": "1", "archives": archives}})
with toolchain_cache.ToolchainCache(Path(sys.argv[1]) / "toolchains").use(wanted):
    pass
"""


class Builder:
    """A process that stands in the middle of its work until it is killed."""

    def __init__(self, program: str, directory: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "there\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def things(directory: Path) -> list[str]:
    """All that lies there but locks."""
    return sorted(path.name for path in directory.glob("*/*") if not path.name.endswith(".lock"))


@pytest.mark.parametrize(
    ("program", "look", "told"),
    [
        (FETCHING, lambda at, remove: sweep(at, remove=remove), ["toolchain", "worktree"]),
        (UNPACKING, build_space.sweep, ["toolchain"]),
        (BUILDING, build_space.sweep, ["build"]),
    ],
)
def test_leftovers_of_the_killed_are_told_before_they_are_removed_and_the_living_keep_theirs(
    tmp_path: Path, program: str, look: Callable[[Path, bool], list[str]], told: list[str]
) -> None:
    assert look(tmp_path, True) == []
    builder = Builder(program, tmp_path)
    try:
        before = things(tmp_path)
        assert look(tmp_path, True) == [] and things(tmp_path) == before != []
    finally:
        builder.kill()
    said = look(tmp_path, False)
    assert [line.split(" /")[0] for line in said] == told and things(tmp_path) == before
    assert look(tmp_path, True) == said and things(tmp_path) == []
    assert look(tmp_path, True) == []


@needs_sshd
def test_recover_removes_what_was_left_here_and_on_the_builders(tmp_path: Path, sshd: LoopbackSshd) -> None:
    farm = Farm(tmp_path, sshd)
    go = tmp_path / "go"
    farm.local, farm.hosts = [], {"builder-1": farm.reached}
    farm.types = {"slow": farm.fields(ref=slow_version(farm, go).ref)}
    controller = farm.start()
    until(lambda: any(log.read_text().count("Compiling") == 4 for log in tmp_path.glob("cache/logs/*.log")))
    controller.kill()
    controller.communicate()
    go.touch()
    until(lambda: farm.left() == [])
    living = Builder(BUILDING, farm.there)
    try:
        kept = farm.left()
        for program in (UNPACKING, BUILDING):  # as a host leaves it that has lost its power
            Builder(program, farm.there).kill()
        assert len(farm.left()) == 4
        code, said = recover(farm)
    finally:
        living.kill()
    assert code == 0, said
    removed = [line.split("] ")[1] for line in said.splitlines() if line.endswith(": removed")]
    assert [line.split(" /")[0] for line in removed] == ["build", "toolchain", "worktree"]
    assert f"/there/toolchains/.{SHA256}.unpacking: was not unpacked to its end: removed" in removed[1]
    assert farm.left() == kept and not list(tmp_path.glob("cache/work/build-*"))
    code, said = recover(farm)
    assert (code, farm.left()) == (0, []) and said.count(": removed") == 1, said
    code, said = recover(farm)
    assert code == 0 and said.count("No changes") == 2 and ": removed" not in said, said


def recover(farm: Farm) -> tuple[int, str]:
    environment: dict[str, Any] = {**os.environ, "FLEETFLASH_STORE": str(farm.directory / "store")}
    answer = subprocess.run(
        [Path(sys.executable).with_name("pyinfra"), "inventory.py", "deploys/recover.py", "-y"],
        cwd=farm.directory,
        env=environment,
        capture_output=True,
        text=True,
    )
    return answer.returncode, answer.stderr
