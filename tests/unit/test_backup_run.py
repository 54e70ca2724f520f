"""A backup reads boards, writes none, and leaves printer and boards as they were, whatever happens on the way."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transaction_host import NEW, OLD, Death, FakeHost, content, make_host

from fleetflash.agent.backup_run import BackupRunner
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.errors import CannotReadError, NoAnswerError, ProtocolError, VerifyError
from fleetflash.agent.schema import UNFINISHED, Firmware, Image, LedgerEntry, Power, Transaction
from fleetflash.agent.store import Store

MakeHost = Callable[..., FakeHost]


class ReadingHost(FakeHost):
    """Transactions of this host read its boards."""

    def backup(self, **changes: Any) -> Transaction:
        as_it_is = Image("", "", 0, OLD, klipper=True)
        fields = {"way_back": None, "read_back": True, "wanted": as_it_is, **changes}
        whole = self.transaction("compatible", **fields)
        return dataclasses.replace(whole, backup_only=True, reason="asked for", started_at=1000.0)

    def runner(self, whole: Transaction) -> BackupRunner:
        return BackupRunner(whole, self.store, self.root / "agent.pyz", self.open_port)

    def kept(self, board: str) -> list[tuple[str, str, bytes]]:
        found = Backups(self.store).of(board)
        return [(b.kind, b.uid, self.store.read_image(b.image.sha256)) for b in found]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadingHost:
    made = make_host(tmp_path, monkeypatch, "a", "b")
    made.__class__ = ReadingHost
    assert isinstance(made, ReadingHost)
    return made


def test_all_boards_are_read_with_klipper_stopped_once_and_none_is_written(host: ReadingHost) -> None:
    assert host.run(host.backup()) == "committed"
    assert host.results() == {"a": "backed-up", "b": "backed-up"}
    assert host.kept("a") == [("read-back", host.boards["a"].uid, content(OLD, "a"))]
    assert host.kept("b") == [("read-back", host.boards["b"].uid, content(OLD, "b"))]
    assert [step for step, _ in host.steps if step in ("stop", "start", "erase", "program")] == ["stop", "start"]
    assert host.versions() == {"a": OLD, "b": OLD} and host.active and host.left_behind() == []
    assert Backups(host.store).of("a")[0].reason == "asked for" and Backups(host.store).of("a")[0].taken_at == 1000.0


def test_board_that_is_met_for_the_first_time_is_known_from_then_on(host: ReadingHost) -> None:
    whole = host.backup()
    boards = [dataclasses.replace(board, by_path=f"/dev/serial/by-path/{board.name}") for board in whole.boards]
    assert host.run(dataclasses.replace(whole, boards=boards)) == "committed"
    met = host.store.ledger("a")
    assert met is not None and (met.uid, met.by_path) == (host.boards["a"].uid, "/dev/serial/by-path/a")
    assert (met.artifact, met.image_sha256, met.version) == ("", "", "")  # nobody has written it


def test_meeting_a_board_again_adds_what_was_not_known_of_it_and_takes_nothing_away(host: ReadingHost) -> None:
    written = LedgerEntry("x", "5" * 64, OLD, "t-0", "ch32v203c8t6", "", 7.0, "/dev/serial/by-path/a")
    host.store.write_ledger("a", written)
    assert host.run(host.backup()) == "committed"
    assert host.store.ledger("a") == dataclasses.replace(written, uid=host.boards["a"].uid)


def test_nothing_of_the_board_that_one_replaces_is_said_of_it(host: ReadingHost) -> None:
    host.store.write_ledger("a", LedgerEntry("x", "5" * 64, OLD, "t-0", "ch32v203c8t6", "ff" * 8))
    assert host.run(host.backup()) == "committed"
    met = host.store.ledger("a")
    assert met is not None and (met.uid, met.image_sha256) == (host.boards["a"].uid, "")


def test_board_that_can_not_be_read_is_no_failure(host: ReadingHost) -> None:
    host.faults["read", "a"] = [CannotReadError("a: no command for it")]
    assert host.run(host.backup()) == "committed"
    assert host.results() == {"a": "unreadable", "b": "backed-up"} and host.versions() == {"a": OLD, "b": OLD}


@pytest.mark.parametrize("klippy_mcu", ["a", None], ids=["klippy tells", "the board itself tells"])
def test_board_that_does_not_come_back_is_power_cycled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, klippy_mcu: str | None
) -> None:
    host = make_host(tmp_path, monkeypatch, "a")
    host.__class__ = ReadingHost
    assert isinstance(host, ReadingHost)
    host.hangs["reset", "a"] = 1
    assert host.run(host.backup(power=Power(device="relay"), klippy_mcu=klippy_mcu)) == "committed"
    assert host.results() == {"a": "backed-up"} and host.versions() == {"a": OLD} and host.active
    assert [step for step, _ in host.steps if step.startswith("power")] == ["power off", "power on"]


def test_bootloader_that_hangs_while_it_is_read_is_read_after_a_power_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "a")
    host.__class__ = ReadingHost
    assert isinstance(host, ReadingHost)
    host.faults["read", "a"], host.hangs["read", "a"] = [NoAnswerError("no answer within 1 s")], 1
    assert host.run(host.backup(power=Power(device="relay"))) == "committed"
    assert host.results() == {"a": "backed-up"} and host.versions() == {"a": OLD} and host.active
    assert [step for step, _ in host.steps if step.startswith("power")] == ["power off", "power on"]


def test_protected_chip_is_no_failure_and_stays_protected(host: ReadingHost) -> None:
    host.boards["a"].protected = True
    assert host.run(host.backup()) == "committed"
    assert host.results() == {"a": "unreadable", "b": "backed-up"}
    assert host.boards["a"].protected and host.boards["a"].version == OLD


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("enter", NoAnswerError("a: no bootloader answers")),
        ("read", ProtocolError("a: garbage")),
        ("read", OSError(28, "No space left on device")),
        ("compare", VerifyError("a: a second reading differs")),
        ("reset", PortError("a: gone")),
    ],
)
def test_board_that_fails_starts_its_firmware_again_and_its_neighbour_is_read(
    host: ReadingHost, step: str, fault: Exception
) -> None:
    host.faults[step, "a"] = [fault]
    assert host.run(host.backup()) == "failed"
    assert host.results() == {"a": "failed", "b": "backed-up"}
    assert host.outcome()["boards"]["a"]["detail"] == str(fault)
    assert host.versions() == {"a": OLD, "b": OLD} and host.active and host.left_behind() == []


def test_another_board_than_the_plan_saw_is_not_read(host: ReadingHost) -> None:
    host.boards["a"].uid = "ff" * 8
    whole = host.backup(uid="00" * 8)
    boards = [dataclasses.replace(b, uid=host.boards[b.name].uid) if b.name == "b" else b for b in whole.boards]
    assert host.run(dataclasses.replace(whole, boards=boards)) == "failed"
    assert ("read", "a") not in host.steps and host.kept("a") == [] and host.boards["a"].version == OLD


def test_torn_flash_is_no_backup(host: ReadingHost) -> None:
    """What a write has left half done is not read, and what is there from before is not told as new."""
    whole = host.backup(expected=Firmware("none"))
    earlier = Occasion("t-0", "", 0.0)
    Backups(host.store).add(whole.boards[0], b"from before", Firmware("none"), host.boards["a"].uid, earlier)
    host.store.write_ledger("a", LedgerEntry("", UNFINISHED, "", "t-0", "ch32v203c8t6", host.boards["a"].uid))
    assert host.run(whole) == "committed"
    assert ("read", "a") not in host.steps and host.results() == {"a": "unreadable", "b": "backed-up"}
    assert host.versions() == {"a": OLD, "b": OLD}


def test_board_that_does_not_run_afterwards_is_told_of_and_klipper_runs(host: ReadingHost) -> None:
    host.silent.add(("a", OLD))
    assert host.run(host.backup()) == "failed"
    assert host.results() == {"a": "failed", "b": "backed-up"}
    assert "it was read, but since then: a on " in host.outcome()["boards"]["a"]["detail"]
    assert host.active and host.kept("a") != [] and host.left_behind() == []


def test_klipper_that_was_stopped_stays_stopped_and_boards_are_asked_themselves(host: ReadingHost) -> None:
    host.active = host.ready = False
    assert host.run(host.backup()) == "committed"
    assert not host.active and ("start", "") not in host.steps
    host.boards["a"].flash = content(NEW, "a")
    host.steps.clear()
    assert host.run(host.backup(expected=Firmware("identify", NEW))) == "failed"
    assert "runs v2, expected v1" in host.outcome()["boards"]["a"]["detail"]


def test_images_of_a_write_need_not_be_there(host: ReadingHost) -> None:
    whole = host.backup()
    for path in host.store.root.glob("images/*"):
        path.unlink()
    assert host.run(whole) == "committed"


def count_ticks(host: ReadingHost) -> int:
    host.run(host.backup())
    return len(host.steps)


def test_death_at_any_step_leaves_boards_and_klipper_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(name: str) -> ReadingHost:
        made = make_host(tmp_path / name, monkeypatch, "a", "b")
        made.__class__ = ReadingHost
        assert isinstance(made, ReadingHost)
        return made

    steps = count_ticks(fresh("whole"))
    assert steps > 30
    for step in range(steps):
        host = fresh(f"death-{step}")
        whole, host.kill_at = host.backup(), step
        with pytest.raises(Death):
            host.run(whole)
        host.after_death(whole)
        assert host.versions() == {"a": OLD, "b": OLD} and host.active, host.steps[-5:]
        assert host.left_behind() == [] and isinstance(host.store, Store)
        assert host.outcome()["outcome"] in ("committed", "failed", "refused")
