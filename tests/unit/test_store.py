"""What the agent wrote down is there after a power cut, whole or not at all; what is needed is never cleaned away."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import disk
from fleetflash.agent.reserve import Reserve
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image, LedgerEntry, Transaction
from fleetflash.agent.store import KEPT_TRANSACTIONS, Journal, Store, StoreError

Log = list[tuple[str, str]]


def journal_in(directory: Path) -> Journal:
    return Journal(directory / "journal.jsonl", Reserve(directory / "reserve"))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """What is synced, renamed and removed, in order; files by their names without what makes them unique."""
    seen: Log = []
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink

    def name(path: str) -> str:
        return ".tmp" if path.endswith(".tmp") else Path(path).name

    def record_fsync(descriptor: int) -> None:
        seen.append(("sync", name(str(Path(f"/proc/self/fd/{descriptor}").readlink()))))
        fsync(descriptor)

    def record_replace(source: str, target: str) -> None:
        seen.append(("rename", Path(target).name))
        replace(source, target)

    def record_unlink(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        seen.append(("remove", path.name))

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(Path, "unlink", record_unlink)
    yield seen


# Files


def test_file_is_synced_before_it_takes_its_place_and_its_directory_after(tmp_path: Path, log: Log) -> None:
    disk.write_file(tmp_path / "state", b"data")
    assert log == [("sync", ".tmp"), ("rename", "state"), ("sync", tmp_path.name)]
    assert (tmp_path / "state").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_new_directories_are_synced_in_their_parents(tmp_path: Path, log: Log) -> None:
    disk.make_directory(tmp_path / "a" / "b")
    assert log == [("sync", tmp_path.name), ("sync", "a")]
    disk.make_directory(tmp_path / "a" / "b")
    assert len(log) == 2


def test_removal_is_synced_and_of_nothing_is_fine(tmp_path: Path, log: Log) -> None:
    (tmp_path / "file").touch()
    disk.remove(tmp_path / "file")
    assert log == [("remove", "file"), ("sync", tmp_path.name)]
    disk.remove(tmp_path / "file")
    assert len(log) == 2


def test_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write_file(tmp_path / "state", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        disk.write_file(tmp_path / "state", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == b"old"


def test_modes_do_not_depend_on_the_umask_of_a_login_shell(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        disk.write_file(tmp_path / "a" / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": 1'])
def test_torn_json_is_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert disk.read_json(tmp_path / "x.json") is None
    assert disk.read_json(tmp_path / "absent.json") is None


# The journal


def test_each_line_is_on_the_disk_before_the_next_step_and_the_first_one_has_a_name_there(
    tmp_path: Path, log: Log
) -> None:
    journal = journal_in(tmp_path)
    journal.append("begin")
    assert log == [("sync", "journal.jsonl"), ("sync", tmp_path.name)]
    journal.append("guarded", board="bmcu", uid="aa")
    assert log[2:] == [("sync", "journal.jsonl")]
    assert [(entry["step"], entry.get("uid")) for entry in journal.read()] == [("begin", None), ("guarded", "aa")]


def test_line_that_a_power_cut_tore_is_left_out_and_swallows_no_other(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    for step in ("begin", "guarded", "writing"):
        journal.append(step)
    whole = journal.path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(whole) + 1):
        journal.path.write_bytes(whole[:end])
        torn = end < len(whole) - 1  # the line break itself may be missing: then the line is whole
        assert [entry["step"] for entry in journal.read()] == ["begin", "guarded"] + ([] if torn else ["writing"])
        journal.append("settling")
        expected = ["begin", "guarded", *([] if torn else ["writing"]), "settling"]
        assert [entry["step"] for entry in journal.read()] == expected, whole[:end]


def test_zeros_that_a_file_system_left_after_a_power_cut_are_no_entry(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    journal.append("begin")
    with journal.path.open("ab") as file:
        file.write(bytes(100))
    journal.append("settling")
    assert [entry["step"] for entry in journal.read()] == ["begin", "settling"]


def test_line_that_the_disk_takes_in_pieces_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    journal = journal_in(tmp_path)
    journal.append("writing", board="bmcu")
    assert journal.read()[0]["board"] == "bmcu"


def test_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert journal_in(tmp_path / "none").read() == []


# Images


def put(store: Store, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    disk.write_file(store.image(sha256), data)
    return sha256


def test_image_is_read_only_when_it_is_what_its_name_says(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sha256 = put(store, b"firmware")
    assert store.read_image(sha256) == b"firmware"
    store.image(sha256).write_bytes(b"firmwarf")
    with pytest.raises(StoreError, match=f"{sha256}.bin: expected sha256 {sha256}, found "):
        store.read_image(sha256)
    with pytest.raises(StoreError, match="found no file"):
        store.read_image("0" * 64)


# Transactions


def transaction(name: str, wanted: str = "1" * 64, way_back: str = "2" * 64) -> Transaction:
    images = [Image("a", sha256, 1, "v") for sha256 in (wanted, way_back)]
    board = BoardTransaction(
        *("bmcu", "/dev/p", "/dev/d", "ch32v203c8t6", ["19:31"], 65536, "wch_isp", Entry("lines"), Firmware("klippy")),
        *images,
    )
    return Transaction(name, "me@here", [board], "klipper.service", "/s", True, True, "exact", 9.0)


def test_transaction_and_outcome_come_back_as_they_were_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_transaction(transaction("t-1"))
    assert store.read_transaction("t-1") == transaction("t-1")
    assert store.controller("t-1") == "me@here"
    assert store.read_outcome("t-1") is None
    store.write_outcome("t-1", {"outcome": "committed"})
    assert store.read_outcome("t-1") == {"outcome": "committed"}
    assert not store.is_reported("t-1")
    store.mark_reported("t-1")
    assert store.is_reported("t-1")


def test_transaction_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=r"transactions/t-1/transaction.json: missing or damaged"):
        store.read_transaction("t-1")
    store.write_transaction(transaction("t-1"))
    path = store.transaction_directory("t-1") / "transaction.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "policy": 7}))
    with pytest.raises(StoreError, match=r"transaction.json: Transaction.policy: expected str"):
        store.read_transaction("t-1")


def test_newest_is_the_one_that_the_host_took_last_whatever_the_controllers_clocks_say(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.newest_transaction() is None
    for name in ("20261121-aa", "20251121-bb", "20271121-cc", "20200101-dd"):
        store.write_transaction(transaction(name))
        assert store.newest_transaction() == name
    store.write_outcome("20271121-cc", {"outcome": "committed"})
    assert store.unfinished() == ["20261121-aa", "20251121-bb", "20200101-dd"]


def test_transaction_that_never_began_is_forgotten_without_a_trace(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_transaction(transaction("t-1"))
    store.write_transaction(transaction("t-2"))
    store.forget_transaction("t-2")
    assert store.newest_transaction() == "t-1" and store.unfinished() == ["t-1"]
    assert not store.transaction_directory("t-2").exists()


# The ledger and the latch


def test_ledger_entry_comes_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = LedgerEntry("a", "1" * 64, "v1", "t-1", "ch32v203c8t6", "aabb", 12.5)
    assert store.ledger("bmcu") is None
    store.write_ledger("bmcu", entry)
    assert store.ledger("bmcu") == entry
    (tmp_path / "boards/bmcu.json").write_text('{"version": "v1"')
    assert store.ledger("bmcu") is None


def test_board_that_needs_a_person_is_latched_until_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_attention("bmcu", "verify failed")
    assert Store(tmp_path).attention() == {"bmcu": "verify failed"}
    (tmp_path / "attention/torn.json").write_text("{")
    assert store.attention()["torn"] == "unknown"
    store.clear_attention("bmcu")
    store.clear_attention("bmcu")
    assert list(store.attention()) == ["torn"]


# Cleaning up


def ended(store: Store, name: str, **images: str) -> None:
    store.write_transaction(transaction(name, **images))
    store.write_outcome(name, {"outcome": "committed"})


def test_images_of_boards_and_of_kept_transactions_are_never_cleaned_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    wanted, way_back, running, orphan = (put(store, text) for text in (b"wanted", b"way back", b"running", b"orphan"))
    ended(store, "t-1", wanted=wanted, way_back=way_back)
    store.write_ledger("bmcu", LedgerEntry("a", running, "v1", "t-0"))
    store.prune()
    kept: set[Any] = {path.stem for path in tmp_path.glob("images/*.bin")}
    assert kept == {wanted, way_back, running} and orphan not in kept


def test_only_the_oldest_that_ended_are_forgotten_and_their_images_with_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = put(store, b"old")
    ended(store, "z-oldest", wanted=old, way_back=old)
    store.write_transaction(transaction("z-unfinished"))
    for number in range(KEPT_TRANSACTIONS):
        ended(store, f"a-{number:02}")
    store.journal("z-oldest").append("begin")
    store.prune()
    left = sorted(path.name for path in (tmp_path / "transactions").iterdir())
    assert left == sorted([f"a-{number:02}" for number in range(KEPT_TRANSACTIONS)] + ["z-unfinished"])
    assert not store.image(old).exists()
    store.prune()
    assert len(list((tmp_path / "transactions").iterdir())) == KEPT_TRANSACTIONS + 1
