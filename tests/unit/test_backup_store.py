"""The controller's copies of backups: whole, their owner's alone, and never the last of a board less."""

import hashlib
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetflash.agent.schema import Backup, Image, Retention
from fleetflash.firmware.backup_store import BackupStore, Kept
from fleetflash.firmware.errors import AmbiguousArtifactError, ArtifactMissingError, StoreError
from fleetflash.firmware.store import Store

DAY = 86400.0


def kept(data: bytes, host: str = "printer-1", board: str = "bmcu", taken_at: float = 0.0, version: str = "v1") -> Kept:
    image = Image("", hashlib.sha256(data).hexdigest(), len(data), version)
    return Kept(host, Backup(board, "read-back", image, "stm32f103xb", "2a", 0, "t-1", "asked for", taken_at))


def never() -> bytes:
    raise AssertionError("it is there already")


@pytest.fixture
def store(tmp_path: Path) -> BackupStore:
    return BackupStore(tmp_path / "store")


def add(store: BackupStore, data: bytes, **fields: str | float) -> Kept:
    made = kept(data, **fields)  # type: ignore[arg-type]
    store.add(made, lambda: data)
    return made


def images(store: BackupStore) -> set[bytes]:
    return {path.read_bytes() for path in store.directory.glob("images/*")}


def test_what_was_added_is_found_and_read(store: BackupStore) -> None:
    made = kept(b"old")
    assert store.add(made, lambda: b"old")
    assert store.find() == [made] == store.find(host="printer-1", board="bmcu") and store.read(made) == b"old"
    assert store.find(host="printer-2") == [] == store.find(board="bed")
    assert store.get(made.id[:4]) == made and store.verify() == []


def test_nothing_of_it_is_for_others_to_read(store: BackupStore) -> None:
    """What was read from a gateway holds its Wi-Fi's password."""
    made = add(store, b"old")
    assert stat.S_IMODE(store.image(made).stat().st_mode) == 0o600
    for directory in (store.directory.parent, store.directory, store.image(made).parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_same_bytes_again_are_not_fetched_and_the_newest_record_is_kept(store: BackupStore) -> None:
    add(store, b"old", taken_at=1.0)
    again = kept(b"old", taken_at=2.0)
    assert store.add(again, never) and not store.add(again, never)
    assert store.find() == [again]


def test_same_bytes_of_another_board_are_a_backup_of_their_own(store: BackupStore) -> None:
    add(store, b"old")
    assert store.add(kept(b"old", board="bed"), never)
    assert len(store.find()) == 2 and len(images(store)) == 1


def test_bytes_that_are_not_those_of_the_record_are_not_kept(store: BackupStore) -> None:
    with pytest.raises(StoreError, match="not the bytes that its record names"):
        store.add(kept(b"old"), lambda: b"new")
    assert store.find() == [] and images(store) == set()


def test_lost_bytes_are_fetched_again(store: BackupStore) -> None:
    made = add(store, b"old")
    store.image(made).write_bytes(b"rot")
    with pytest.raises(StoreError, match="expected sha256"):
        store.read(made)
    assert store.add(made, lambda: b"old") and store.read(made) == b"old"


def test_fetch_that_fails_leaves_nothing(store: BackupStore) -> None:
    def lost() -> bytes:
        raise ConnectionError("the link")

    with pytest.raises(ConnectionError):
        store.add(kept(b"old"), lost)
    assert store.find() == [] and store.verify() == []


def test_old_ones_go_with_their_bytes_and_the_last_of_each_board_stays(store: BackupStore) -> None:
    for day in range(1, 5):
        add(store, b"a%d" % day, taken_at=day * DAY)
    lone = add(store, b"b", board="bed", taken_at=0.0)
    other = add(store, b"c", host="printer-2", taken_at=0.0)
    gone = store.retain("printer-1", Retention(keep=2, days=100), 1000 * DAY)
    assert [made.backup.taken_at / DAY for made in gone] == [3, 2, 1]
    assert images(store) == {b"a4", b"b", b"c"} and all(made in store.find() for made in (lone, other))
    assert store.verify() == []


def test_what_a_pin_names_stays(store: BackupStore) -> None:
    add(store, b"new", taken_at=9 * DAY)
    add(store, b"mid", taken_at=8 * DAY)
    pinned = add(store, b"old", taken_at=1 * DAY, version="v0")
    gone = store.retain("printer-1", Retention(keep=1, days=100, pins=["v0"]), 10 * DAY)
    assert len(gone) == 1 and pinned in store.find() and store.read(pinned) == b"old"


def test_bytes_that_another_record_names_stay(store: BackupStore) -> None:
    add(store, b"new", taken_at=9 * DAY)
    add(store, b"shared", taken_at=1 * DAY)
    other = add(store, b"shared", board="bed", taken_at=1 * DAY)
    store.retain("printer-1", Retention(keep=1), 10 * DAY)
    assert store.read(other) == b"shared" and len(store.find()) == 2


def test_bytes_stay_while_a_record_can_not_be_read(store: BackupStore) -> None:
    """It may name them."""
    add(store, b"new", taken_at=9 * DAY)
    add(store, b"old", taken_at=1 * DAY)
    (store.directory / "records" / f"{'0' * 64}.json").write_text("{")
    store.retain("printer-1", Retention(keep=1), 10 * DAY)
    assert images(store) == {b"new", b"old"}


def damaged_record(store: BackupStore, made: Kept) -> str:
    (store.directory / "records" / f"{made.id}.json").write_text("{}")
    return "is no record of a backup"


def record_of_another(store: BackupStore, made: Kept) -> str:
    path = store.directory / "records" / f"{made.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "printer-9"}))
    return "or not of this one"


def lost_bytes(store: BackupStore, made: Kept) -> str:
    store.image(made).unlink()
    return "printer-1/bmcu: .*found no file"


def rotten_bytes(store: BackupStore, made: Kept) -> str:
    store.image(made).write_bytes(b"rot")
    return "printer-1/bmcu: .*expected sha256"


def stray_bytes(store: BackupStore, made: Kept) -> str:
    (store.directory / "images" / f"{'0' * 64}.bin").write_bytes(b"stray")
    return "belongs to no backup"


@pytest.mark.parametrize("damage", [damaged_record, record_of_another, lost_bytes, rotten_bytes, stray_bytes])
def test_verify_names_what_is_wrong(store: BackupStore, damage: Callable[[BackupStore, Kept], str]) -> None:
    said = damage(store, add(store, b"old"))
    assert any(re.search(said, problem) for _, problem in store.verify())


def test_id_that_means_none_or_two_is_an_error(store: BackupStore) -> None:
    made = add(store, b"old")
    for prefix in ("", made.id[:3], "zzzz", "../../x"):
        with pytest.raises(ArtifactMissingError, match="fleetflash backup list"):
            store.get(prefix)


def test_beginning_that_two_have_names_neither(store: BackupStore) -> None:
    beginnings: dict[str, Kept] = {}
    for number in range(100_000):
        made = kept(b"%d" % number)
        if (first := beginnings.setdefault(made.id[:4], made)) is not made:
            break
    store.add(made, lambda: b"%d" % number)
    assert store.get(made.id[:4]) == made
    store.add(first, lambda: first_bytes(first))
    with pytest.raises(AmbiguousArtifactError, match="2 backups begin with"):
        store.get(made.id[:4])


def first_bytes(made: Kept) -> bytes:
    """The bytes that ``test_beginning_that_two_have_names_neither`` has counted up to."""
    sha256 = made.backup.image.sha256
    return next(b"%d" % n for n in range(100_000) if hashlib.sha256(b"%d" % n).hexdigest() == sha256)


def test_artifacts_and_backups_share_a_store(store: BackupStore) -> None:
    add(store, b"old")
    assert Store(store.directory.parent).verify() == [] and Store(store.directory.parent).find() == []


def test_store_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"backups in .*/file/backups: File exists"):
        add(BackupStore(tmp_path / "file"), b"old")
