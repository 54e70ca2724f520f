"""Entries of an inventory that are one host, and when nothing there may be disturbed."""

import getpass
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetflash.agent.schema import HOST_CODE, Hold, ServiceFacts, Snapshot, TransactionFacts
from fleetflash.facts import installation
from fleetflash.host_state import HostStateError
from fleetflash.operations import klipper, printer
from fleetflash.provision import printer_cfg
from fleetflash.provision.conversation import Found, Tree
from fleetflash.report import run
from fleetflash.report.run import RunReport

KLIPPER = {"ref": "v0.12.0", "requirements": "klippy.txt", "fetch": "host"}


class Data(dict[str, Any]):
    """A host's data, as pyinfra has it."""

    def dict(self) -> "dict[str, Any]":
        return dict(self)


class Entry:
    """A host of pyinfra's, as far as it matters here."""

    def __init__(self, name: str, **data: Any) -> None:
        usual = {"ssh_user": "pi", "klipper_service": "klipper.service", "klipper": KLIPPER}
        self.name, self.data = name, Data({**usual, **data})
        self.state: Any = None


def second(number: int, **data: Any) -> "dict[str, Any]":
    socket = f"/home/pi/printer_{number}_data/comms/klippy.sock"
    return {"klipper_service": f"klipper-{number}.service", "klippy_socket": socket, **data}


def inventory(*entries: Entry, limit: "tuple[str, ...]" = (), failed: "tuple[str, ...]" = ()) -> None:
    for entry in entries:
        entry.state = SimpleNamespace(
            inventory=list(entries),
            failed_hosts={other for other in entries if other.name in failed},
            is_host_in_limit=lambda other: not limit or other.name in limit,
        )


def test_the_first_entry_of_a_host_brings_what_is_shared_and_another_one_when_that_does_not_run() -> None:
    alone, left, right = Entry("alone"), Entry("left", ssh_hostname="x"), Entry("right", ssh_hostname="x")
    inventory(alone, left, right)
    assert [installation.bringer(entry) for entry in (alone, left, right)] == ["alone", "left", "left"]
    inventory(alone, left, right, limit=("right",))
    assert installation.bringer(right) == "right"
    inventory(alone, left, right, failed=("left",))
    assert installation.bringer(right) == "right"


def test_printers_of_a_host_must_say_the_same_of_it_and_not_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "klippy.txt").write_text(f"a==1 --hash=sha256:{'0' * 64}\n")
    left = Entry("left", ssh_hostname="x", **second(1))
    right = Entry("right", ssh_hostname="x", **second(2))
    inventory(left, right)
    assert installation.desired(left).services == ("klipper-1.service", "klipper-2.service")
    inventory(left, twin := Entry("twin", ssh_hostname="x", **second(1)))
    with pytest.raises(HostStateError, match=r"twin has klipper-1.service, as another printer of its host"):
        installation.desired(twin)
    inventory(left, other := Entry("other", ssh_hostname="x", **second(2, klipper={**KLIPPER, "ref": "v0.11.0"})))
    with pytest.raises(HostStateError, match="left and other are one host and must say the same"):
        installation.desired(left)
    assert other.name == "other"


IDLE = ServiceFacts(unit="u", active="active", main_pid=7, klippy="ready", print_state="standby")


@pytest.mark.parametrize(
    ("service", "transaction", "reason"),
    [
        (IDLE, None, ""),
        (ServiceFacts(unit="u", active="active", main_pid=7, klippy="ready", print_state="printing"), None, "printing"),
        (ServiceFacts(unit="u", active="active", main_pid=7, klippy="ready", paused=True), None, "paused"),
        (ServiceFacts(unit="u", active="active", main_pid=7, error="silent"), None, "can't tell whether"),
        (ServiceFacts(unit="u", active="activating", main_pid=0), None, ""),
        (ServiceFacts(unit="u", active="unknown", error="no systemd"), None, "can't tell whether"),
        (ServiceFacts(unit="u", active="absent"), None, ""),
        (ServiceFacts(unit="u", active="inactive"), TransactionFacts("t1", "", True), "t1 is writing boards"),
    ],
)
def test_nothing_is_disturbed_unless_it_certainly_does_not_print(
    service: ServiceFacts, transaction: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("left")
    inventory(entry)
    seen = Snapshot("h", "3.11.2", "", "", 0, service, [], {}, transaction)
    monkeypatch.setattr(installation, "take", lambda transport, host, request: seen)
    monkeypatch.setattr(installation, "transport", lambda host: None)
    busy = installation.why_busy(entry, [entry])
    assert reason in busy if reason else busy == ""


@pytest.mark.parametrize("policy", ["exact", "compatible"])
@pytest.mark.parametrize(
    ("commit", "at", "happens"),
    [
        ("aaa", "aaa", "stays"),
        ("aaa", "ccc", "stays"),
        ("bbb", "ccc", "moves"),
        ("", "aaa", "moves"),
        ("aaa", "", "moves"),
    ],
)
def test_source_that_a_rollback_holds_is_not_moved_whatever_the_policy_is_now(
    policy: str, commit: str, at: str, happens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``commit``: where it is held, if it is; ``at``: where it is. The pin leads to ``bbb``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "klippy.txt").write_text(f"a==1 --hash=sha256:{'0' * 64}\n")
    entry = Entry("left", policy=policy, klipper={**KLIPPER, "ref": "bbb"})
    inventory(entry)
    noops: list[str] = []
    entry.noop, entry.print_prefix, entry.state.is_executing = noops.append, "", True  # type: ignore[attr-defined]
    holds = {HOST_CODE: Hold(commit, "v0.11.0", "pin", "t0", "you@there")} if commit else {}
    seen = Snapshot("h", "3.11.2", "", "", 0, IDLE, [], {}, holds=holds)
    trees = {"klipper": Tree("git", at)} if at else {}
    monkeypatch.setattr(installation, "take", lambda transport, host, request: seen)
    monkeypatch.setattr(installation, "transport", lambda host: None)
    monkeypatch.setattr(installation, "look", lambda host, wanted: Found("/home/pi", trees))
    monkeypatch.setattr(klipper, "host", entry)
    report = RunReport(entry.state)
    monkeypatch.setattr(run, "current", lambda state: report)
    changes, waiting = list(klipper.source._inner()), report.waiting
    if policy == "exact" and at:
        assert (changes, noops, waiting) == ([], ["is what it shall be"], {})
    elif happens == "stays":
        assert (changes, noops) == ([], ["is held by a rollback"])
        (text,) = waiting["left"]
        assert text.startswith("~/klipper is not at bbb: held at v0.11.0 since a rollback by you@there")
        assert "fleetflash hold clear INVENTORY left 'host code'" in text
    else:
        assert len(changes) == 1 and (noops, waiting) == ([], {})


def test_a_printer_cfg_that_is_there_is_never_replaced_and_an_include_keeps_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "printer.cfg"
    real = tmp_path / "elsewhere.cfg"
    own = "[printer]\nkinematics: none\n#*# SAVE_CONFIG\n"

    def run(command: str) -> None:
        subprocess.run(["sh", "-c", command], check=True)

    run(printer._make(str(path), getpass.getuser(), printer_cfg.minimal("/home/pi/printer_data")))
    assert printer_cfg.INCLUDE in path.read_text()
    path.unlink()
    real.write_text(own)
    real.chmod(0o640)
    path.symlink_to(real)
    run(printer._make(str(path), getpass.getuser(), "something else"))
    assert path.read_text() == own
    run(printer._prepend(str(path)))
    assert path.is_symlink() and real.read_text() == f"{printer_cfg.INCLUDE}\n\n{own}"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere.cfg", "printer.cfg"]
