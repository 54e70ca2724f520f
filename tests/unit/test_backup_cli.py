"""``fleetflash backup``: what is there, in columns or JSON; what is wrong; bytes into files that are nobody else's."""

import argparse
import hashlib
import json
import stat
from pathlib import Path

import pytest

from fleetflash.agent.protocols.flash_parts import Part, pack
from fleetflash.agent.schema import Backup, Image
from fleetflash.cli import COMMANDS
from fleetflash.cli.backup import add_parser
from fleetflash.firmware.backup_store import BackupStore, Kept


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackupStore:
    monkeypatch.setenv("FLEETFLASH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return BackupStore()


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser(prog="fleetflash")
    add_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["backup", *argv])
    return int(arguments.run(arguments))


def keep(store: BackupStore, data: bytes = b"old", host: str = "printer-1", taken_at: float = 0.0) -> Kept:
    image = Image("", hashlib.sha256(data).hexdigest(), len(data), "v0.11.0", "gcc 12")
    made = Kept(host, Backup("bmcu", "read-back", image, "stm32f103xb", "2a00", 8192, "t-1", "a new hotend", taken_at))
    store.add(made, lambda: data)
    return made


def test_is_a_command_of_fleetflash() -> None:
    assert "backup" in COMMANDS


def test_list_has_the_newest_first_with_the_whole_record(
    store: BackupStore, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = keep(store), keep(store, b"newer", "printer-2", 90000.0)
    assert run("list") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["ID", "TAKEN", "(UTC)", "HOST"]
    assert first.startswith(f"{newer.short_id}  1970-01-02 01:00  printer-2")
    words = ["printer-1", "bmcu", "read-back", "v0.11.0", "stm32f103xb", "2a00", "3", "a", "new", "hotend"]
    assert second.split()[0] == older.short_id and second.split()[3:] == words
    assert run("list", "--host", "printer-2", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["host"], listed["image"]["sha256"]) == (
        newer.id,
        "printer-2",
        newer.backup.image.sha256,
    )


def test_list_of_nothing_says_where_it_looked(store: BackupStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert capsys.readouterr().out == f"no backups in {store.directory}\n"


def test_show_tells_all_of_one(store: BackupStore, capsys: pytest.CaptureFixture[str]) -> None:
    made = keep(store)
    assert run("show", made.short_id) == 0
    out = capsys.readouterr().out
    for fact in (made.id, "t-1", "a new hotend", "0x2000", "gcc 12", made.backup.image.sha256, str(store.image(made))):
        assert fact in out
    assert run("show", made.short_id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["transaction"] == "t-1"


def test_verify_has_an_exit_code(store: BackupStore, capsys: pytest.CaptureFixture[str]) -> None:
    made = keep(store)
    assert run("verify") == 0 and capsys.readouterr().out == "0 problems\n"
    store.image(made).write_bytes(b"rot")
    assert run("verify") == 1
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{made.short_id}: printer-1/bmcu: ")
    assert run("verify", "--json") == 1 and json.loads(capsys.readouterr().out)[0]["backup"] == made.short_id


def test_export_writes_a_file_that_is_nobody_elses(store: BackupStore, tmp_path: Path) -> None:
    assert run("export", keep(store).id, "old.bin") == 0
    path = tmp_path / "old.bin"
    assert path.read_bytes() == b"old" and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_export_replaces_nothing(store: BackupStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.bin").write_text("mine")
    assert run("export", keep(store).id, "old.bin") == 2
    assert capsys.readouterr().err == "fleetflash: old.bin: File exists; give a path that is not there yet\n"
    assert (tmp_path / "old.bin").read_text() == "mine"


def test_export_of_bytes_that_are_rotten_writes_nothing(store: BackupStore, tmp_path: Path) -> None:
    made = keep(store)
    store.image(made).write_bytes(b"rot")
    assert run("export", made.id, "old.bin") == 2 and not (tmp_path / "old.bin").exists()


def test_export_of_a_gateway_is_what_esptool_writes(store: BackupStore, tmp_path: Path) -> None:
    whole, parts = pack([Part(0, b"the whole flash")]), pack([Part(0x1000, b"boot"), Part(0x10000, b"app")])
    assert run("export", keep(store, whole).id, "whole.bin") == 0
    assert (tmp_path / "whole.bin").read_bytes() == b"the whole flash"
    assert run("export", keep(store, parts).id, "parts") == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert found == {"0x00001000.bin": b"boot", "0x00010000.bin": b"app"}


@pytest.mark.parametrize("argv", [("show", "deadbeef"), ("export", "deadbeef", "x"), ("show", "x")])
def test_mistake_is_one_line(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fleetflash: no backup") and captured.err.count("\n") == 1 and captured.out == ""
