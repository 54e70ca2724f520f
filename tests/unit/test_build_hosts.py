"""A host of the group ``builders`` compiles what this computer would have compiled, and keeps nothing of it.

The host is this machine behind a real sshd; the firmware is the small tree of ``tests/firmware_tree``, which has the
library of Kconfig with it here, as Klipper has: Debian's Python knows none.
"""

import hashlib
import io
import platform
import re
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from test_build_builder import TOOLCHAINS, Project

from fleetflash.build import host_build, host_compiler
from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildHostError, CompileError, ToolchainError
from fleetflash.build.host_build import HostFacts
from fleetflash.build.host_compiler import HostCompiler
from fleetflash.build.progress import Progress
from fleetflash.build.spread import spread
from fleetflash.build.toolchain import read_toolchains
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.firmware.store import Store

pytestmark = needs_sshd


class HostProject(Project):
    """A project whose builders compile on hosts, each below ``there`` in the project's folder."""

    def __init__(self, directory: Path, sshd: LoopbackSshd) -> None:
        self.sshd = sshd
        super().__init__(directory)
        self.source.add_kconfiglib()
        self.source.commit("v0.2.0")

    @property
    def there(self) -> Path:
        return self.directory / "there"

    def on_host(
        self,
        host: str = "builder-1",
        cache: str = "cache",
        transport: paramiko.Transport | None = None,
        toolchains: dict[str, Any] = TOOLCHAINS,
    ) -> Builder:
        there, pinned = transport or self.sshd.transport(), read_toolchains(toolchains)
        packages = [package for toolchain in pinned.values() for package in toolchain.debian]
        at = self.directory / cache
        compiler = HostCompiler(host, lambda: there, ToolchainCache(at / "toolchains"), packages, str(self.there))
        return Builder(at, Store(self.directory / f"{cache}-store"), self.directory, pinned, self.told.append, compiler)

    def fields(self, **fields: Any) -> dict[str, Any]:
        return super().fields(**{"ref": "v0.2.0", **fields})

    def left(self) -> list[str]:
        """What builds have left on the host, apart from the lock and toolchains."""
        return sorted(path.name for path in (self.there / "work").glob("*") if path.name != ".lock")


@pytest.fixture
def project(tmp_path: Path, sshd: LoopbackSshd) -> HostProject:
    return HostProject(tmp_path, sshd)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def slow_version(project: HostProject, go: Path) -> BoardType:
    """A version whose build waits until there is a file."""
    wait = f"import time\nfrom pathlib import Path\nwhile not Path({str(go)!r}).exists():\n    time.sleep(0.05)\n"
    project.source.replace("scripts/dictionary.py", "import argparse\n", f"import argparse\n{wait}")
    project.source.commit("v0.3.0")
    return project.board_type(ref="v0.3.0")


def test_host_makes_the_same_bytes_under_the_same_key_and_keeps_nothing(project: HostProject) -> None:
    (project.directory / "port/files/src").mkdir(parents=True)
    (project.directory / "port/files/src/extra.h").write_text("extern int extra;\n")
    board_type = project.board_type(overlay="port")
    builder, local = project.on_host(), project.new_builder("other")
    found, expected = builder.ensure(board_type), local.ensure(board_type)
    assert found.built and (found.key, found.artifact.id) == (expected.key, expected.artifact.id)
    assert found.artifact.version.startswith("v0.2.0-1-g")
    for name in ("klipper.bin", "klipper.dict", "config"):
        assert (builder.builds.path(found.key) / name).read_bytes() == (
            local.builds.path(expected.key) / name
        ).read_bytes()
    log = (builder.builds.path(found.key) / "build.log").read_text()
    assert log.startswith("$ make (on builder-1)\n") and "Linking out/klipper.elf" in log
    assert any(re.fullmatch(r"builder-1: .* \(line \d+\)", line) for line in project.told)
    assert project.left() == [] and not (project.there / "toolchains").exists()
    assert not builder.ensure(board_type).built and list((builder.cache / "work").glob("build-*")) == []


def test_host_is_looked_at_once_and_not_asked_for_what_is_built(project: HostProject) -> None:
    project.on_host().ensure(project.board_type())
    builder, before = project.on_host(), project.sshd.commands_run()
    for _ in range(3):
        assert builder.prospect(project.board_type()).is_registered
    assert not builder.ensure(project.board_type()).built
    assert project.sshd.commands_run() == before + 1


def test_builders_on_many_hosts_build_each_type_once(project: HostProject) -> None:
    builders = [project.new_builder("cache"), *(project.on_host(f"builder-{number}") for number in range(3))]
    types = [
        project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": baud}, firmware=f"klipper-{baud}")
        for baud in (38400, 500000)
    ]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda job: job[0].ensure(job[1]), [(b, t) for b in builders for t in types]))
    assert [outcome.built for outcome in outcomes].count(True) == 2 == project.built()
    assert len({outcome.artifact.id for outcome in outcomes}) == 2 and project.left() == []


def test_compile_error_names_the_host_and_the_next_run_is_clean(project: HostProject) -> None:
    project.source.replace("src/main.c", "uart_init();", "uart_init()")
    project.source.commit("v0.3.0")
    builder = project.on_host()
    with pytest.raises(CompileError) as caught:
        builder.ensure(project.board_type(ref="v0.3.0"))
    text = str(caught.value)
    assert text.startswith("board type arduino: builder-1: make failed: ") and "error: expected ';'" in text
    assert "Compiling out/main.o" in Path(text.rpartition("all of it: ")[2]).read_text() and "\n" not in text
    assert project.left() == [] and builder.store.find() == []
    assert builder.ensure(project.board_type()).built


def test_compiler_that_the_host_lacks_is_named(project: HostProject) -> None:
    lacking = {"avr": {"version": "5", "debian": {"gcc-avr": "*", "gcc-of-nobody": "1.0*"}}}
    with pytest.raises(ToolchainError) as caught:
        project.on_host(toolchains=lacking).prospect(project.board_type())
    assert str(caught.value) == (
        "board type arduino: builder-1: toolchain avr 5: gcc-of-nobody is not installed, expected 1.0*: "
        "apt-get install 'gcc-of-nobody=1.0*'"
    )


def test_program_that_the_host_lacks_is_named(project: HostProject, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = project.on_host()
    with monkeypatch.context() as patched:
        patched.setattr(host_build, "PROGRAMS", ("make", "no-such-program"))
        with pytest.raises(BuildHostError, match="builder-1: no-such-program not installed: apt-get install no-such"):
            builder.ensure(project.board_type())
    assert project.left() == [] and builder.ensure(project.board_type()).built


def test_packages_that_change_between_look_and_build_are_noticed(
    project: HostProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published under a key was made with what the key says, also when somebody upgrades the host meanwhile."""
    builder, board_type = project.on_host(), project.board_type()
    usual = builder.prospect(board_type).prepared.key
    before = HostFacts("x86_64", "1.2.3", True, dict.fromkeys(TOOLCHAINS["avr"]["debian"], ("9.9", "amd64")))
    builder = project.on_host()
    with monkeypatch.context() as patched:
        patched.setattr(host_compiler, "look", lambda session, packages: before)
        assert builder.prospect(board_type).prepared.key.zlib == "1.2.3"
        with pytest.raises(BuildHostError, match="builder-1: avr 5 has changed there since it was looked at"):
            builder.ensure(board_type)
    assert project.left() == []
    found = builder.ensure(board_type)
    assert found.built and found.key == usual.id


def test_lost_link_ends_the_build_there_and_the_next_run_is_clean(project: HostProject) -> None:
    go = project.directory / "go"
    board_type, transport = slow_version(project, go), project.sshd.transport()
    builder = project.on_host(transport=transport)
    failed: list[BaseException] = []

    def build() -> None:
        try:
            builder.ensure(board_type)
        except BaseException as error:
            failed.append(error)

    running = threading.Thread(target=build)
    running.start()
    # All four sources are compiled: from now on, nothing is said that could not be delivered.
    until(lambda: any(log.read_text().count("Compiling") == 4 for log in builder.cache.glob("logs/*.log")))
    assert len(project.left()) == 2
    transport.close()
    running.join(60)
    assert isinstance(failed[0], BuildHostError)
    assert str(failed[0]).startswith("board type arduino: builder-1: the SSH connection was lost; run again")
    try:
        # It waits for the file, so it was ended.
        until(lambda: project.left() == [])
    finally:
        go.touch()
    assert project.on_host().ensure(board_type).built


def test_what_a_dead_build_left_on_the_host_is_removed(project: HostProject) -> None:
    left = project.there / "work/build-dead"
    left.mkdir(parents=True)
    (left / "klipper").write_text("half")
    left.with_suffix(".lock").touch()
    project.on_host().ensure(project.board_type())
    assert project.left() == []


def test_full_disk_on_the_host_is_told_and_the_next_run_is_clean(project: HostProject, tmp_path: Path) -> None:
    """Files may have 2 MiB there: as on a full disk, writing the source fails in its middle."""
    (project.source.path / "large").write_bytes(bytes(4 << 20))
    project.source.commit("v0.3.0")
    board_type = project.board_type(ref="v0.3.0")
    (tmp_path / "small").mkdir()
    forced = """ForceCommand /bin/sh -c 'ulimit -f 4096; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'"""
    with LoopbackSshd(tmp_path / "small", forced) as small:
        builder = project.on_host(transport=small.transport())
        with pytest.raises(BuildHostError) as caught:
            builder.ensure(board_type)
    assert str(caught.value) == (
        f"board type arduino: builder-1: {project.there}: File too large; free space there, "
        "or name another build_directory"
    )
    assert project.left() == [] and project.on_host().ensure(board_type).built


def archived_toolchain(project: HostProject, version: str) -> dict[str, Any]:
    wrapper = f'#!/bin/sh\n[ "$1" = --version ] && echo "avr-gcc (Pinned) {version}" && exit\nexec avr-gcc-real "$@"\n'
    wrapper = wrapper.replace("avr-gcc-real", "/usr/bin/avr-gcc")
    archive = project.directory / f"toolchain-{version}.tar"
    with tarfile.open(archive, "w") as packed:
        info = tarfile.TarInfo("pinned/bin/avr-gcc")
        info.size, info.mode = len(wrapper), 0o755
        packed.addfile(info, io.BytesIO(wrapper.encode()))
    pinned = {"urls": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    archives = {platform.machine(): pinned}
    return {"avr": {"version": version, "archives": archives, "bin": "pinned/bin", "programs": ["avr-gcc"]}}


def test_archive_goes_to_the_host_once_and_is_what_compiles_there(project: HostProject) -> None:
    pinned = archived_toolchain(project, "9.9")
    builder = project.on_host(toolchains=pinned)
    half = project.there / "toolchains" / f".{'0' * 64}.unpacking"
    half.mkdir(parents=True)
    first = builder.ensure(project.board_type())
    second = builder.ensure(project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": 38400}))
    for outcome in (first, second):
        assert outcome.built and outcome.artifact.klipper is not None
        assert outcome.artifact.klipper.build_versions.startswith("gcc: (Pinned) 9.9 binutils: ")
    assert project.told.count("builder-1: gets toolchain avr 9.9") == 1
    there = [path.name for path in (project.there / "toolchains").iterdir() if not path.name.endswith(".lock")]
    assert there == [pinned["avr"]["archives"][platform.machine()]["sha256"]]
    other = project.new_builder("other")
    other.pinned = read_toolchains(pinned)
    assert other.ensure(project.board_type()).key == first.key


def test_architecture_without_an_archive_names_the_host(project: HostProject) -> None:
    pinned = archived_toolchain(project, "9.9")
    pinned["avr"]["archives"] = {"riscv64": pinned["avr"]["archives"][platform.machine()]}
    with pytest.raises(ToolchainError, match=f"builder-1: toolchain avr 9.9: no archive for {platform.machine()}"):
        project.on_host(toolchains=pinned).prospect(project.board_type())


def test_progress_is_the_first_line_and_then_one_from_time_to_time() -> None:
    told: list[str] = []
    progress = Progress(told.append, interval=3600)
    for said in (b"  Compiling out/", b"main.o\n", b"  Compiling out/uart.o\n"):
        progress(said)
    assert told == ["Compiling out/main.o (line 1)"]
    every = Progress(told.append, interval=0)
    for said in (b"one\ntwo\n\x1b[31mthree\nfo", b"ur\n"):
        every(said)
    assert told[1:] == ["[31mthree (line 3)", "four (line 4)"]


def test_every_type_falls_to_one_builder_that_can_and_evenly() -> None:
    builders = ["two", "@local", "one"]
    found = spread(dict.fromkeys(["a", "b", "c", "d", "e"], builders))
    assert found == {"a": "@local", "b": "one", "c": "two", "d": "@local", "e": "one"}
    only = spread({"a": builders, "b": builders, "c": ["@local"], "d": ["@local", "one"]})
    assert only == {"c": "@local", "d": "one", "a": "two", "b": "@local"}
