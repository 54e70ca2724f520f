"""A Debian host without a compiler builds with the archive that it is given: the same bytes as here, and nothing stays.

The archive is this computer's avr-gcc, which finds its parts beside itself wherever it lies.
"""

import hashlib
import platform
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildHostError
from fleetflash.build.host_compiler import HostCompiler
from fleetflash.build.toolchain import Toolchain, read_toolchains
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.firmware.store import Store
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import HostSpec
from fleetflash.link import ssh
from tests.firmware_source import FirmwareSource
from tests.lab.conftest import full_only, lab_name, require_lab

pytestmark = [pytest.mark.lab, full_only]

ROOT = Path(__file__).parents[2]
#: On its first boot, the host waits here for its power to go.
WAIT = "import os, time\ntime.sleep(0 if os.path.exists('/home/pi/again') else 3600)\n"
DIRECTORY = "/home/pi/.cache/fleetflash/builder"


class Farm:
    """A bare host, and builders here that have it compile."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.host: Host = lab.host("build-1")
        self.source = FirmwareSource(directory / "klipper")
        self.source.add_kconfiglib()
        self.source.commit("v0.2.0")
        shutil.copytree(ROOT / "templates", directory / "templates")
        archive = self._archive()
        pinned = {"urls": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
        archives = {platform.machine(): pinned}
        self.toolchains: dict[str, Toolchain] = read_toolchains(
            {"avr": {"version": "5.4.0", "archives": archives, "programs": ["avr-gcc", "avr-objcopy"]}}
        )
        self.told: list[str] = []

    def _archive(self) -> Path:
        path = self.directory / "avr-gcc.tar"
        with tarfile.open(path, "w") as archive:
            for program in sorted(Path("/usr/bin").glob("avr-*")):
                archive.add(program, f"bin/{program.name}")
            for tree in ("lib/avr", "lib/gcc/avr"):
                archive.add(Path("/usr") / tree, tree)
        return path

    def board_type(self, **fields: str) -> BoardType:
        usual: dict[str, object] = {
            "chip": "atmega328p",
            "firmware": "klipper-avr",
            "repository": str(self.source.path),
            "ref": "v0.2.0",
            "kconfig": {"MACH_atmega328p": True},
            "toolchain": "avr",
        }
        return read_board_types({"nano": {**usual, **fields}}, self.toolchains)["nano"]

    def here(self, cache: str) -> Builder:
        return self._builder(cache, None)

    def there(self, connection: ssh.SshConnection, directory: str = DIRECTORY) -> Builder:
        cached = ToolchainCache(self.directory / "cache/toolchains")
        return self._builder("cache", HostCompiler("build-1", lambda: connection.transport, cached, (), directory))

    def _builder(self, cache: str, compiler: HostCompiler | None) -> Builder:
        at, store = self.directory / cache, Store(self.directory / f"{cache}-store")
        return Builder(at, store, self.directory, self.toolchains, self.told.append, compiler)

    def connect(self) -> ssh.SshConnection:
        return ssh.connect("build-1", "pi", ssh_config=self.lab.ssh_config)

    def crash_while_it_compiles(self) -> None:
        deadline = time.monotonic() + 60
        while not [log for log in self.directory.glob("cache/logs/*.log") if "Compiling" in log.read_text()]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.host.crash()

    def left(self) -> str:
        return self.host.run(f"ls {DIRECTORY}/work").stdout


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    require_lab()
    name, subnet = lab_name()
    network, _, number = subnet.rpartition(".")
    with Lab.up(f"{name}-build", (HostSpec("build-1", (), bare=True),), f"{network}.{int(number) + 4}") as lab:
        yield Farm(lab, tmp_path_factory.mktemp("farm"))
    assert leftovers(lab.layout) == []


def give_make(host: Host) -> None:
    command = "cat >/usr/local/bin/make && chmod 755 /usr/local/bin/make"
    subprocess.run([*host.ssh_command("root"), command], input=Path("/usr/bin/make").read_bytes(), check=True)


def test_host_builds_with_what_it_is_given_and_survives_what_breaks(farm: Farm) -> None:
    assert farm.host.run("command -v avr-gcc make").returncode
    board_type = farm.board_type()
    with farm.connect() as connection:
        builder = farm.there(connection)
        with pytest.raises(BuildHostError, match="build-1: make not installed: apt-get install make"):
            builder.ensure(board_type)
        give_make(farm.host)
        small = "mkdir /home/pi/small && mount -t tmpfs -o size=2m tmpfs /home/pi/small && chown pi: /home/pi/small"
        farm.host.run(small, user="root", check=True)
        with pytest.raises(BuildHostError, match=r"build-1: /home/pi/small.*: No space left on device; free space"):
            farm.there(connection, "/home/pi/small").ensure(board_type)
        assert "toolchains" in farm.host.run("ls -A /home/pi/small").stdout
        assert farm.host.run("ls /home/pi/small/toolchains").stdout == ""

        found, expected = builder.ensure(board_type), farm.here("other").ensure(board_type)
        assert found.built and (found.key, found.artifact.id) == (expected.key, expected.artifact.id)
        assert farm.told.count("build-1: gets toolchain avr 5.4.0") == 2 and farm.left() == ""

        # Its power goes while it compiles.
        farm.source.replace("scripts/dictionary.py", "import argparse\n", f"import argparse\n{WAIT}")
        farm.source.commit("v0.3.0")
        cut = threading.Thread(target=farm.crash_while_it_compiles)
        cut.start()
        with pytest.raises(BuildHostError, match="build-1: the SSH connection was lost; run again when the host is"):
            builder.ensure(farm.board_type(ref="v0.3.0"))
        cut.join()
    assert builder.builds.find(found.key) is not None and len(builder.store.find()) == 1
    farm.host.start()
    farm.host.run("touch /home/pi/again", check=True)
    with farm.connect() as connection:
        assert farm.there(connection).ensure(farm.board_type(ref="v0.3.0")).built
    assert farm.left() == ""
