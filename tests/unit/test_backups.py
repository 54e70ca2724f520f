"""What boards ran is kept, whole and with its record, and goes back to no other board."""

import hashlib
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import disk
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.schema import Backup, BoardTransaction, Entry, Firmware, Image, Retention, Transaction
from fleetflash.agent.store import Store, StoreError

UID = "2a003500"
RUNNING = Firmware("klippy", "v1", "gcc 12", {"MCU": "stm32f103xe"})
NOW = Occasion("t-1", "before v2 was written", 1000.0)
KEEP = 3
FEW = Retention(keep=KEEP)


def board(**changes: Any) -> BoardTransaction:
    image = Image("a", "1" * 64, 1, "v2")
    described = BoardTransaction(
        name="toolhead",
        port="/dev/p",
        device="/dev/d",
        chip="stm32f103xb",
        chip_ids=["stm32f103xe"],
        flash_size=0x1_E000,
        programmer="katapult",
        entry=Entry("request"),
        expected=RUNNING,
        wanted=image,
        way_back=None,
        flash_offset=0x2000,
    )
    return replace(described, **changes)


def transaction(name: str = "t-1", **changes: Any) -> Transaction:
    whole = Transaction(name, "me@here", [board()], "klipper.service", "", True, True, "compatible", 1.0)
    return replace(whole, **changes)


def image(data: bytes, version: str = "v1") -> Image:
    return Image("a" * 64, hashlib.sha256(data).hexdigest(), len(data), version)


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(Store(tmp_path))


def test_backup_is_an_image_like_every_other_and_only_roots(backups: Backups) -> None:
    image = backups.add(board(), b"old firmware", RUNNING, UID, NOW)
    assert backups.store.read_image(image.sha256) == b"old firmware"
    assert (image.size, image.version, image.build_versions, image.klipper) == (12, "v1", "gcc 12", True)
    assert image.constants == RUNNING.constants
    assert stat.S_IMODE(backups.store.image(image.sha256).stat().st_mode) == 0o600


def test_record_says_of_which_board_when_why_and_by_which_transaction(backups: Backups) -> None:
    read = backups.add(board(), b"old firmware", RUNNING, UID, NOW)
    rest = ("stm32f103xb", UID, 0x2000, "t-1", "before v2 was written", 1000.0)
    assert backups.of("toolhead") == [Backup("toolhead", "read-back", read, *rest)]
    known = image(b"registered")
    backups.add_known_good(board(), known, UID, NOW)
    assert backups.of("toolhead")[0] == Backup("toolhead", "known-good", known, *rest)


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (transaction(), "before v2 was written"),
        (transaction(reason="a new hotend"), "before v2 was written: a new hotend"),
        (transaction(backup_only=True, reason="a new hotend"), "a new hotend"),
    ],
)
def test_reason_is_the_write_that_follows_or_what_somebody_said(whole: Transaction, reason: str) -> None:
    assert Occasion.of(whole, whole.boards[0]).reason == reason


def test_time_is_the_controllers_since_a_printers_clock_may_be_anything() -> None:
    assert Occasion.of(transaction(started_at=5.0), board()).time == 5.0
    assert Occasion.of(transaction(), board()).time > 1e9


def test_board_that_said_nothing_is_not_asked_when_it_is_taken_back(backups: Backups) -> None:
    silent = Firmware("none", error="no answer")
    assert backups.add(board(), b"a vendor's", silent, UID, NOW).klipper is False


def test_empty_flash_is_no_way_back(backups: Backups) -> None:
    with pytest.raises(StoreError, match="toolhead: its flash is empty"):
        backups.add(board(), b"", RUNNING, UID, NOW)
    assert backups.of("toolhead") == []


def test_newest_backups_survive_a_cleaning_and_the_oldest_do_not(backups: Backups) -> None:
    names = [f"firmware {number}".encode() for number in range(KEEP + 1)]
    for name in names:
        backups.add(board(), name, RUNNING, UID, NOW)
    backups.add(board(), names[1], RUNNING, UID, NOW)
    backups.retain(["toolhead"], FEW, NOW.time)
    kept = [backup.image.sha256 for backup in backups.of("toolhead")]
    assert kept == [hashlib.sha256(name).hexdigest() for name in (names[1], names[3], names[2])]
    backups.store.prune()
    assert {path.stem for path in backups.store.root.glob("images/*.bin")} == set(kept)


def test_only_boards_of_the_transaction_are_cleaned(backups: Backups) -> None:
    for number in range(KEEP + 1):
        backups.add(board(name="other"), bytes([number]), RUNNING, UID, NOW)
    backups.retain(["toolhead"], FEW, NOW.time)
    assert len(backups.of("other")) == KEEP + 1


def test_backup_of_a_transaction_that_has_not_ended_stays(backups: Backups) -> None:
    backups.store.write_transaction(transaction("t-0"))
    unsettled = backups.add(board(), b"what t-0 wants back", RUNNING, UID, replace(NOW, transaction="t-0"))
    for number in range(KEEP + 1):
        backups.add(board(), bytes([number]), RUNNING, UID, NOW)
    backups.retain(["toolhead"], FEW, NOW.time)
    assert backups.of("toolhead")[-1].image == unsettled
    backups.store.write_outcome("t-0", {"outcome": "restored"})
    backups.retain(["toolhead"], FEW, NOW.time)
    assert unsettled not in [backup.image for backup in backups.of("toolhead")]


def test_full_disk_keeps_what_it_has(backups: Backups, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(KEEP + 1):
        backups.add(board(), bytes([number]), RUNNING, UID, NOW)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_json", full)
    backups.retain(["toolhead"], FEW, NOW.time)
    assert len(backups.of("toolhead")) == KEEP + 1


def test_what_is_not_a_list_of_backups_is_none(backups: Backups) -> None:
    backups.add(board(), b"old firmware", RUNNING, UID, NOW)
    path = backups.store.root / "backups/toolhead.json"
    for damaged in ("{}", "[{}]", "[", '[{"image": 1}]'):
        path.write_text(damaged)
        assert backups.of("toolhead") == []


def test_what_a_newer_agent_has_recorded_stays_and_so_do_its_bytes(backups: Backups) -> None:
    newer = backups.add(board(), b"recorded by a newer agent", RUNNING, UID, NOW)
    path = backups.store.root / "backups/toolhead.json"
    (entry,) = disk.read_json(path) or []
    disk.write_json(path, [{**entry, "later": 1}])
    for number in range(KEEP + 2):
        backups.add(board(), b"older agent %d" % number, RUNNING, UID, replace(NOW, time=2000.0 + number))
        backups.retain(["toolhead"], FEW, 1e9)
        backups.store.prune()
    assert {**entry, "later": 1} in (disk.read_json(path) or [])
    assert backups.store.read_image(newer.sha256) == b"recorded by a newer agent"


def test_a_list_that_is_damaged_costs_no_image_and_is_kept_aside(
    backups: Backups, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = backups.add(board(), b"old firmware", RUNNING, UID, NOW)
    path = backups.store.root / "backups/toolhead.json"
    path.write_text("[{")
    backups.store.prune()
    assert f"no image is forgotten while {path} can't be read" in capsys.readouterr().err
    backups.add(board(), b"newer firmware", RUNNING, UID, NOW)
    backups.store.prune()
    assert backups.store.read_image(lost.sha256) == b"old firmware"
    (aside,) = path.parent.glob("toolhead.damaged-*.json")
    aside.unlink()
    backups.store.prune()
    assert not backups.store.image(lost.sha256).exists() and len(backups.of("toolhead")) == 1
