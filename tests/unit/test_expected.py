"""What is confirmed by one look needs no further question; what only looks right is never confirmed."""

import getpass
import grp
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetflash.agent import expected as agent
from fleetflash.agent import pending_restart, systemd
from fleetflash.facts import installation
from fleetflash.operations import bring as bring_module
from fleetflash.operations.bring import bring
from fleetflash.provision import expected
from fleetflash.provision.conversation import Found
from fleetflash.provision.errors import HostRefusedError
from fleetflash.provision.expected import Expected

ME = getpass.getuser()


def holds(*these: Expected) -> "list[bool]":
    return agent.held([one.to_json() for one in these])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file of the test's own group, whatever the umask."""
    path = tmp_path / "fleetflash.cfg"
    path.write_text("[mcu]\n")
    path.chmod(0o644)
    os.chown(path, os.geteuid(), grp.getgrnam(ME).gr_gid)
    return path


def test_a_file_holds_only_with_its_content_owner_and_mode_and_not_through_a_link(place: Path) -> None:
    right = expected.file(str(place), "[mcu]\n", ME, "644")
    assert holds(right, expected.file(str(place), "[mcu]", ME, "644")) == [True, False]
    assert holds(expected.file(str(place), "[mcu]\n", "nobody", "644"), right) == [False, True]
    place.chmod(0o640)
    assert holds(right) == [False]
    place.chmod(0o644)
    link = place.with_name("link.cfg")
    link.symlink_to(place)
    assert holds(expected.file(str(link), "[mcu]\n", ME, "644"), expected.present(str(link))) == [False, True]
    place.unlink()
    assert holds(right, expected.present(str(place))) == [False, False]


def test_a_folder_is_no_file_and_a_line_must_begin_so(place: Path) -> None:
    place.parent.chmod(0o755)
    os.chown(place.parent, os.geteuid(), grp.getgrnam(ME).gr_gid)
    assert holds(expected.folder(str(place.parent), ME, "755"), expected.folder(str(place), ME, "644")) == [True, False]
    assert holds(expected.file(str(place.parent), "", ME, "755"), expected.present(str(place.parent))) == [False, False]
    place.write_text("# [include x.cfg]\n[include y.cfg] \n")
    lines = [expected.line(str(place), "[include x.cfg]"), expected.line(str(place), "[include y.cfg]")]
    assert holds(*lines, expected.line(str(place.with_name("none")), "[")) == [False, True, False]


def test_a_user_must_be_in_every_group_and_live_where_the_inventory_says() -> None:
    home = str(Path.home())
    own = grp.getgrgid(os.getgid()).gr_name
    assert holds(expected.account(ME, home, [own]), expected.account(ME, home, [own, "no-such-group"])) == [True, False]
    assert holds(expected.account(ME, "/elsewhere", [own]), expected.account("no-such-user", home, [])) == [
        False,
        False,
    ]


def test_a_package_must_be_installed_and_one_that_is_missing_is_not_hidden_by_its_neighbours() -> None:
    there, missing = expected.packages(["dpkg", "coreutils:any"]), expected.packages(["dpkg", "no-such-package"])
    assert holds(there, missing) == [True, False]


@pytest.mark.parametrize(
    ("active", "enabled", "marked", "answer"),
    [
        ("active", "enabled", False, True),
        ("activating", "enabled", False, False),
        ("active", "disabled", False, False),
        ("active", "enabled", True, False),
    ],
)
def test_a_service_must_be_up_at_boot_too_and_run_from_what_lies_on_the_disk(
    active: str, enabled: str, marked: bool, answer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {
        "klipper.service": f"ActiveState={active}\nUnitFileState={enabled}\n",
        "absent.service": "ActiveState=inactive\nUnitFileState=\n",
    }
    monkeypatch.setattr(systemd, "systemctl", lambda *words: "\n".join(shown[unit] for unit in words if unit in shown))
    monkeypatch.setattr(pending_restart, "RUN", tmp_path)
    if marked:
        pending_restart.mark(["klipper.service"])
    klipper, absent = expected.service("klipper.service"), expected.service("absent.service")
    assert holds(klipper, absent) == [answer, False] and holds(absent, klipper) == [False, answer]


def test_a_host_whose_systemd_does_not_answer_confirms_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: str) -> str:
        raise systemd.SystemdError("no bus")

    monkeypatch.setattr(systemd, "systemctl", fail)
    assert holds(expected.service("klipper.service")) == [False]


A, B = expected.present("/a"), expected.present("/b")


class Entry:
    """A host of pyinfra's, as far as it matters here."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.data = name, {"ssh_hostname": address}
        self.state: Any = SimpleNamespace(is_executing=True, failed_hosts=set(), is_host_in_limit=lambda other: True)
        self.state.inventory = []
        self.said: list[str] = []

    def noop(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> "Iterator[list[str]]":
    """The hosts that were looked at, in order. Each has A and not B."""
    asked: list[str] = []

    def look(host: Any, wanted: object) -> Found:
        asked.append(host.name)
        return Found(held=frozenset({A}))

    for name, kind in (("_known", dict), ("_expected", dict), ("_changed", set)):
        monkeypatch.setattr(installation, name, kind())
    monkeypatch.setattr(installation, "_look", look)
    monkeypatch.setattr(installation, "desired", lambda host: None)
    yield asked


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> "Callable[..., list[str]]":
    """Run an operation of one command on a host; return its commands, and note that the host was asked for facts."""

    def run(host: Entry, thing: Expected, *commands: str) -> "list[str]":
        monkeypatch.setattr(bring_module, "host", host)

        def ask() -> "list[str]":
            host.said.append("asked")
            return list(commands)

        return list(bring([thing], ask, "done"))

    return run


def test_one_look_answers_for_all_operations_and_what_it_does_not_confirm_is_asked(
    looks: "list[str]", run: "Callable[..., list[str]]"
) -> None:
    host = Entry("printer", "10.0.0.1")
    installation.expect(host, [A, B])
    assert run(host, A, "mend a") == [] and run(host, B) == [] and run(host, A, "mend a") == []
    assert looks == ["printer"]
    assert host.said == ["done", "asked", "done", "done"]
    assert run(host, expected.present("/never announced"), "make it") == ["make it"]


def test_nothing_is_confirmed_once_the_host_was_changed_by_whichever_of_its_entries(
    looks: "list[str]", run: "Callable[..., list[str]]"
) -> None:
    left, right, other = Entry("left", "10.0.0.1"), Entry("right", "10.0.0.1"), Entry("other", "10.0.0.2")
    for host in (left, right, other):
        installation.expect(host, [A, B])
        assert run(host, A, "mend a") == []
    assert run(left, B, "mend b") == ["mend b"]
    assert [run(host, A, "mend a") for host in (left, right, other)] == [["mend a"], ["mend a"], []]


def test_preparing_an_operation_changes_nothing_and_executing_looks_anew(
    looks: "list[str]", run: "Callable[..., list[str]]"
) -> None:
    host = Entry("printer", "10.0.0.1")
    installation.expect(host, [A, B])
    host.state.is_executing = False
    assert run(host, B, "mend b") == ["mend b"] and run(host, A, "mend a") == []
    host.state.is_executing = True
    assert run(host, A, "mend a") == []
    assert looks == ["printer", "printer"]


def test_a_host_that_can_not_be_looked_at_is_asked_in_the_usual_way(
    looks: "list[str]", run: "Callable[..., list[str]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(host: object) -> None:
        raise HostRefusedError("no")

    host = Entry("printer", "10.0.0.1")
    installation.expect(host, [A])
    monkeypatch.setattr(installation, "desired", refuse)
    assert run(host, A, "mend a") == ["mend a"] and looks == []
