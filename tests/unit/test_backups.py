"""What was read back from a board is kept, whole, and goes back to no other board."""

import hashlib
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent.backups import KEPT_BACKUPS, Backups
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image
from fleetflash.agent.store import Store, StoreError

UID = "2a003500"
RUNNING = Firmware("klippy", "v1", "gcc 12", {"MCU": "stm32f103xe"})


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


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(Store(tmp_path))


def test_backup_is_an_image_like_every_other_and_only_roots(backups: Backups) -> None:
    image = backups.add(board(), b"old firmware", RUNNING, UID, "t-1")
    assert backups.store.read_image(image.sha256) == b"old firmware"
    assert (image.size, image.version, image.build_versions, image.klipper) == (12, "v1", "gcc 12", True)
    assert image.constants == RUNNING.constants
    assert stat.S_IMODE(backups.store.image(image.sha256).stat().st_mode) == 0o600
    (kept,) = backups.of(board().name)
    assert (kept.image, kept.uid) == (image, UID)


def test_board_that_said_nothing_is_not_asked_when_it_is_taken_back(backups: Backups) -> None:
    silent = Firmware("none", error="no answer")
    assert backups.add(board(), b"a vendor's", silent, UID, "t-1").klipper is False


def test_empty_flash_is_no_way_back(backups: Backups) -> None:
    with pytest.raises(StoreError, match="toolhead: its flash is empty"):
        backups.add(board(), b"", RUNNING, UID, "t-1")
    assert backups.of("toolhead") == []


def test_newest_backups_survive_a_cleaning_and_the_oldest_do_not(backups: Backups) -> None:
    names = [f"firmware {number}".encode() for number in range(KEPT_BACKUPS + 1)]
    for name in names:
        backups.add(board(), name, RUNNING, UID, "t")
    backups.add(board(), names[1], RUNNING, UID, "t")
    kept = [backup.image.sha256 for backup in backups.of("toolhead")]
    assert kept == [hashlib.sha256(name).hexdigest() for name in (names[1], names[3], names[2])]
    backups.store.prune()
    assert {path.stem for path in backups.store.root.glob("images/*.bin")} == set(kept)


def test_what_is_not_a_list_of_backups_is_none(backups: Backups) -> None:
    backups.add(board(), b"old firmware", RUNNING, UID, "t-1")
    path = backups.store.root / "backups/toolhead.json"
    for damaged in ("{}", "[{}]", "[", '[{"image": 1}]'):
        path.write_text(damaged)
        assert backups.of("toolhead") == []
