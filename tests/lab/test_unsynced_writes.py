"""What a host wrote without a sync is gone after a power cut, and what it synced is there: rule by rule."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import HostSpec

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="needs systemd-container"),
]

STATE = "/var/lib/fleetflash"

# What the cases below are written in. Every case has a directory of its own, which is durable.
WORDS = """
import os, sys
def write(path, text, *, sync=True, how=os.fsync, mode="w"):
    with open(path, mode) as file:
        file.write(text)
        file.flush()
        if sync:
            how(file.fileno())
def sync(path="."):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""


@dataclass(frozen=True)
class Case:
    """``before`` is made durable as a whole, ``act`` is what the power cut strikes after.

    ``left``: path → content of what must be there then; ``None`` stands for a directory, ``-> target`` for a link.
    """

    name: str
    act: str
    left: dict[str, str | None]
    before: str = "pass"


FULL = "os.mkdir('d'); write('d/a', 'old')"

CASES = [
    Case("synced file and name", "write('a', 'new'); sync()", {"a": "new"}),
    Case("synced file without its name", "write('a', 'new')", {}),
    Case("name without its file", "write('a', 'new', sync=False); sync()", {"a": ""}),
    Case("neither", "write('a', 'new', sync=False)", {}),
    Case("data alone", "write('a', 'new', how=os.fdatasync); sync()", {"a": "new"}),
    Case("unsynced change", "write('a', 'new', sync=False)", {"a": "old"}, "write('a', 'old')"),
    Case("unsynced addition", "write('a', 'new', sync=False, mode='a')", {"a": "old"}, "write('a', 'old')"),
    Case("synced addition", "write('a', 'new', mode='a')", {"a": "oldnew"}, "write('a', 'old')"),
    Case(
        "last sync counts",
        "write('a', '1'); sync(); write('a', '2', mode='a'); write('a', '3', mode='a', sync=False)",
        {"a": "12"},
    ),
    Case("synced from another descriptor", "write('a', 'new', sync=False); sync('a'); sync()", {"a": "new"}),
    Case("rename undone", "os.rename('a', 'b')", {"a": "old"}, "write('a', 'old')"),
    Case("rename", "os.rename('a', 'b'); sync()", {"b": "old"}, "write('a', 'old')"),
    Case("former file is back", "write('b', 'new'); os.rename('b', 'a')", {"a": "old"}, "write('a', 'old')"),
    Case("replaced", "write('b', 'new'); os.rename('b', 'a'); sync()", {"a": "new"}, "write('a', 'old')"),
    Case(
        "replaced by what was not synced",
        "write('b', 'new', sync=False); os.rename('b', 'a'); sync()",
        {"a": ""},
        "write('a', 'old')",
    ),
    Case("removal undone", "os.unlink('a')", {"a": "old"}, "write('a', 'old')"),
    Case("removal", "os.unlink('a'); sync()", {}, "write('a', 'old')"),
    Case("removed and made again", "os.unlink('a'); write('a', 'new')", {"a": "old"}, "write('a', 'old')"),
    Case(
        "made again unsynced", "os.unlink('a'); write('a', 'new', sync=False); sync()", {"a": ""}, "write('a', 'old')"
    ),
    Case("new directory", "os.mkdir('d'); write('d/a', 'new'); sync('d'); sync()", {"d": None, "d/a": "new"}),
    Case("new directory without its name", "os.mkdir('d'); write('d/a', 'new'); sync('d')", {}),
    Case("new directory without its entries", "os.mkdir('d'); write('d/a', 'new'); sync()", {"d": None}),
    Case("deep below what has no name", "os.makedirs('d/e'); write('d/e/a', 'new'); sync('d/e'); sync('d')", {}),
    Case("removed directory is back", "os.unlink('d/a'); os.rmdir('d')", {"d": None, "d/a": "old"}, FULL),
    Case("removed directory is back, empty", "os.unlink('d/a'); sync('d'); os.rmdir('d')", {"d": None}, FULL),
    Case("removed directory", "os.unlink('d/a'); os.rmdir('d'); sync()", {}, FULL),
    Case(
        "moved, only the target synced",
        "os.rename('d/a', 'e/a'); sync('e')",
        {"d": None, "d/a": "old", "e": None, "e/a": "old"},
        "os.mkdir('d'); os.mkdir('e'); write('d/a', 'old')",
    ),
    Case(
        "moved, only the source synced",
        "os.rename('d/a', 'e/a'); sync('d')",
        {"d": None, "e": None},
        "os.mkdir('d'); os.mkdir('e'); write('d/a', 'old')",
    ),
    Case("renamed directory", "os.rename('d', 'e'); sync()", {"e": None, "e/a": "old"}, FULL),
    Case("link", "os.symlink('../x', 'l'); sync()", {"l": "-> ../x"}),
    Case("link without its name", "os.symlink('../x', 'l')", {}),
    Case("file becomes directory, undone", "os.unlink('a'); os.mkdir('a')", {"a": "old"}, "write('a', 'old')"),
    Case("more than a page", "write('a', 'x' * 300_000); sync()", {"a": "x" * 300_000}),
    Case("odd names", "write('a b\\n', 'new'); sync()", {"a b\n": "new"}),
]


def as_root(host: Host, program: str) -> str:
    return host.run("sudo python3 -", stdin=WORDS + program, check=True).stdout


def each(source: str) -> str:
    """A program that runs every case's ``before`` or ``act`` in the case's directory."""
    parts = {case.name: getattr(case, source) for case in CASES}
    return f"""
os.umask(0o022)
os.makedirs({STATE!r}, exist_ok=True)
for name, part in {parts!r}.items():
    os.makedirs({STATE!r} + '/' + name, exist_ok=True)
    os.chdir({STATE!r} + '/' + name)
    exec(part)
"""


SHOW = f"""
import json
found = {{}}
for case in os.listdir({STATE!r}):
    os.chdir({STATE!r} + '/' + case)
    tree = found[case] = {{}}
    for where, directories, files in os.walk('.'):
        for name in directories + files:
            path = os.path.normpath(os.path.join(where, name))
            link = os.path.islink(path)
            tree[path] = '-> ' + os.readlink(path) if link else None if os.path.isdir(path) else open(path).read()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up("test-unsynced", tuple(HostSpec(f"printer-{number}") for number in (1, 2, 3)), "10.79.8") as lab:
        yield lab


@pytest.fixture(scope="module")
def left(lab: Lab) -> dict[str, dict[str, str | None]]:
    """What one power cut left of every case."""
    host = lab.host("printer-1")
    as_root(host, each("before") + "os.sync()")
    as_root(host, each("act"))
    host.crash()
    host.start()
    found: dict[str, dict[str, str | None]] = json.loads(as_root(host, SHOW))
    return found


@pytest.fixture
def host(lab: Lab) -> Host:
    host = lab.host("printer-2")
    if host.phase == "off":
        host.start()
    return host


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_what_was_synced_is_there_after_a_power_cut(left: dict[str, dict[str, str | None]], case: Case) -> None:
    assert left[case.name] == case.left


def test_a_host_on_its_first_day_loses_nothing_that_it_was_delivered_with(lab: Lab) -> None:
    host = lab.host("printer-3")
    show = "cd /etc/systemd/system; find . -printf '%p %l %m %u\\n' | sort; cat *.service"
    before = host.run(show, check=True).stdout
    assert "klipper.service" in before
    host.crash()
    host.start()
    assert host.run(show, check=True).stdout == before


def test_a_clean_stop_and_a_reboot_lose_nothing(host: Host) -> None:
    write = f"os.makedirs('{STATE}/kept/d', exist_ok=True)\nwrite('{STATE}/kept/d/%s', 'new', sync=False)"
    as_root(host, write % "stopped")
    host.stop()
    host.start()
    as_root(host, write % "rebooted")
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = host.run(boot, check=True).stdout
    host.run("sudo systemctl reboot")
    deadline = time.monotonic() + 30
    while host.run(boot).stdout in ("", before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    host.crash()
    host.start()
    assert host.run(f"cd {STATE}/kept; find * -type f | sort", check=True).stdout.split() == ["d/rebooted", "d/stopped"]


def test_the_whole_directory_is_gone_when_its_own_name_was_not_synced(host: Host) -> None:
    as_root(host, f"import shutil; shutil.rmtree('{STATE}', ignore_errors=True); sync('/var/lib')")
    new = f"os.mkdir('{STATE}'); write('{STATE}/a', 'new'); sync('{STATE}')"
    as_root(host, new)
    host.crash()
    host.start()
    assert host.run(f"test -e {STATE}").returncode == 1
    as_root(host, new + "; sync('/var/lib')")
    host.crash()
    host.start()
    assert host.run(f"cat {STATE}/a", check=True).stdout == "new"
    host.run(f"sudo rm -r {STATE}", check=True)
    host.crash()
    host.start()
    assert host.run(f"cat {STATE}/a", check=True).stdout == "new"


def test_a_unit_that_was_enabled_without_a_sync_is_not_enabled(host: Host) -> None:
    unit = "[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n"
    shown = "systemctl is-enabled klipper a.service b.service; ls /etc/systemd/system"
    before = host.run(shown).stdout.splitlines()
    write = f"printf '{unit}' >/etc/systemd/system/%s.service; systemctl --quiet enable %s.service"
    host.run(f'sudo sh -c "{write % ("a", "a")}; sync; {write % ("b", "b")}"', check=True)
    host.crash()
    host.start()
    after = host.run(shown).stdout.splitlines()
    assert after[:2] == ["enabled", "enabled"] and {*after[2:]} == {*before[1:], "a.service"}


@pytest.mark.parametrize("command", ["sync", f"sync -f {STATE}", f"sync -d {STATE}/s/a; sync {STATE}/s"])
def test_every_way_to_sync_counts(host: Host, command: str) -> None:
    host.run(f"sudo sh -c 'rm -rf {STATE}; mkdir -p {STATE}/s; sync; echo new >{STATE}/s/a; {command}'", check=True)
    host.crash()
    host.start()
    assert host.run(f"cat {STATE}/s/a", check=True).stdout == "new\n"


def test_modes_and_owners_are_those_of_the_last_sync(host: Host) -> None:
    make = "".join(f"write('{name}', 'x'); os.chmod('{name}', 0o640); os.chown('{name}', 1000, 1000);" for name in "ab")
    as_root(host, f"os.makedirs('{STATE}/m', exist_ok=True); os.chdir('{STATE}/m'); {make} os.sync()")
    as_root(host, f"os.chdir('{STATE}/m'); os.chmod('a', 0o600); os.chown('b', 0, 0); sync('b'); os.chmod('b', 0o777)")
    host.crash()
    host.start()
    assert host.run(f"cd {STATE}/m; stat -c '%n %a %u' *", check=True).stdout.split("\n")[:-1] == [
        "a 640 1000",
        "b 640 0",
    ]


def test_what_any_user_syncs_counts(host: Host) -> None:
    host.run(f"sudo install -d -o pi {STATE}/pi; sudo sync", check=True)
    host.run(f"echo new > {STATE}/pi/a; sync {STATE}/pi/a {STATE}/pi; echo more >> {STATE}/pi/a", check=True)
    host.run(f"sudo sync {STATE}/pi", check=True)
    host.crash()
    host.start()
    assert host.run(f"cat {STATE}/pi/a", check=True).stdout == "new\n"


def test_many_that_sync_at_once_lose_nothing(host: Host) -> None:
    program = f"""
os.makedirs('{STATE}/many', exist_ok=True)
os.chdir('{STATE}/many')
os.sync()
children = []
for number in range(8):
    children.append(os.fork())
    if not children[-1]:
        for turn in range(25):
            write(f'{{number}}-{{turn}}', 'x')
            sync()
        os._exit(0)
for child in children:
    os.waitpid(child, 0)
"""
    as_root(host, program)
    host.crash()
    host.start()
    assert host.run(f"ls {STATE}/many | wc -l", check=True).stdout == "200\n"
