"""What a dead transaction leaves is found without root, settled on request, and said."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transaction_host import NEW, OLD, SERVICE, Death, FakeHost, make_host

from fleetflash.agent import guard, leftovers, systemd
from fleetflash.agent.recovery import Recovery


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(systemd, "is_active", lambda unit: host.active)
    monkeypatch.setattr(guard, "is_idle", lambda: True)
    host = make_host(tmp_path, monkeypatch, "a", "b")
    return host


def die(host: FakeHost, step: str, board: str) -> Any:
    """A transaction that dies at a step, and whose guard dies with it."""
    whole = host.transaction("compatible")
    host.kill_on = (step, board)
    with pytest.raises(Death):
        host.run(whole)
    return whole


def recover(host: FakeHost, whole: Any, problem: str = "") -> list[dict[str, Any]]:
    def settle() -> str:
        return problem or (host.runner(whole).settle() and "")

    def lower() -> str:
        host.after_death(whole)
        return ""

    return Recovery(host.store, settle, lower).run()


def test_host_at_rest_has_no_leftovers(host: FakeHost) -> None:
    assert leftovers.find(host.store, True) == []
    host.run(host.transaction())
    assert leftovers.find(host.store, True) == [] and recover(host, None) == []


def test_half_written_board_is_restored_and_told(host: FakeHost) -> None:
    whole = die(host, "programming", "b")
    (left,) = leftovers.find(host.store, True)
    assert str(left) == "transaction t-1: was interrupted after the step writing of b"
    (told,) = recover(host, whole)
    assert told["found"] == str(left) and told["well"]
    assert told["done"].startswith("restored (a restored, b restored): interrupted")
    assert host.versions() == {"a": OLD, "b": OLD} and host.active and host.store.is_reported("t-1")
    assert leftovers.find(host.store, True) == []


def test_committed_transaction_is_finished(host: FakeHost) -> None:
    whole = die(host, "before write_outcome", "t-1")
    (told,) = recover(host, whole)
    assert told["done"] == "committed (a flashed, b flashed)" and host.versions() == {"a": NEW, "b": NEW}


def test_transaction_that_never_began_is_told_as_such(host: FakeHost) -> None:
    host.store.write_transaction(host.transaction())
    assert str(leftovers.find(host.store, True)[0]) == "transaction t-1: was handed over and never began"


def test_board_that_resists_needs_somebody(host: FakeHost) -> None:
    whole = die(host, "programming", "b")
    host.faults["enter", "b"] = [OSError("no answer")] * 99
    (told,) = recover(host, whole)
    assert "b needs-attention" in told["done"] and not told["well"]


def test_what_can_not_be_settled_now_stays_and_says_why(host: FakeHost) -> None:
    whole = die(host, "programming", "b")
    (told,) = recover(host, whole, "the printer is printing; run again when it is idle")
    assert told["done"] == "the printer is printing; run again when it is idle" and not told["well"]
    assert len(leftovers.find(host.store, True)) == 1


def test_guard_and_service_of_a_transaction_that_ended_are_cleared(host: FakeHost) -> None:
    """It died between its outcome and its last breath, and Klipper with it."""
    whole = host.transaction()
    host.run(whole)
    host.active = False
    guard.mark_stopped()
    guard.hold()
    found = [(left.kind, left.name) for left in leftovers.find(host.store, True)]
    assert found == [("guard", str(guard.BUSY)), ("service", SERVICE)]
    told = recover(host, whole)
    assert [(item["done"], item["well"]) for item in told] == [("cleared away", True)] * 2
    assert host.active and leftovers.find(host.store, True) == []


def test_klipper_that_somebody_has_stopped_later_is_theirs(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(host.transaction())
    host.active = False
    guard.mark_stopped()
    started = str(int(float(guard.STOPPED.read_text()) * 1e6) + 1)
    facts = {"ActiveState": "inactive", "ActiveEnterTimestampMonotonic": started}
    monkeypatch.setattr(systemd, "show", lambda unit, properties: facts)
    assert leftovers.find(host.store, True) == []


def test_half_uploaded_files_are_removed_and_those_that_grow_are_not(host: FakeHost) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    images = host.store.root / "images"
    images.mkdir(parents=True)
    left = images / f".abc.bin.{gone.pid}.tmp"
    growing = images / f".def.bin.{os.getpid()}.tmp"
    for path in (left, growing):
        path.write_bytes(b"half")
    (told,) = recover(host, None)
    assert told == {"found": f"file {left}: was not written to its end", "done": "removed", "well": True}
    assert not left.exists() and growing.exists()


def test_transaction_that_runs_is_left_alone(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    die(host, "programming", "b")
    monkeypatch.setattr(guard, "is_idle", lambda: False)
    assert leftovers.find(host.store, False) == []
    (told,) = recover(host, None)
    assert told["found"] == "transaction t-1 is running" and told["well"]
