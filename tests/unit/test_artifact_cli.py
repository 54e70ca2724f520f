"""``fleetflash artifact``: exit codes, one clear line for an error, JSON for programs."""

import argparse
import json
from pathlib import Path

import pytest
from firmware_images import VERSION, klipper_bin

from fleetflash.cli.artifact import add_parser
from fleetflash.firmware.store import Store

ADD = ("add", "--chip", "ch32v203c8t6", "--name", "bmcu-c")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("FLEETFLASH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "klipper.bin").write_bytes(klipper_bin())
    (tmp_path / "vendor.bin").write_bytes(b"vendor firmware")
    return Store()


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser(prog="fleetflash")
    add_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["artifact", *argv])
    return int(arguments.run(arguments))


def test_add_prints_the_artifact(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ADD, "--label", "factory", "klipper.bin") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "NAME", "VERSION", "CHIP", "BYTES", "ADDED", "LABELS"]
    artifact = store.find()[0]
    assert row.split()[:5] == [artifact.short_id, "bmcu-c", VERSION, "ch32v203c8t6", "30000"]
    assert row.endswith("factory")


def test_add_of_several_registers_all_or_none(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.bin").write_bytes(klipper_bin("v0.11.0-1-g1"))
    assert run(*ADD, "klipper.bin", "other.bin", "vendor.bin") == 2
    assert store.find() == []
    assert run(*ADD, "klipper.bin", "other.bin", "--json") == 0
    out = capsys.readouterr().out
    assert [artifact["version"] for artifact in json.loads(out)] == [VERSION, "v0.11.0-1-g1"]
    assert len(store.find()) == 2


@pytest.mark.parametrize(
    "argv",
    [
        (*ADD, "missing.bin"),
        (*ADD, "vendor.bin"),
        ("add", "--chip", "ch32v203c8t7", "--name", "x", "klipper.bin"),
        ("add", "--chip", "atmega2560", "--name", "x", "klipper.bin"),
        (*ADD, "--version", "v9", "klipper.bin"),
        ("show", "deadbeef"),
        ("show", "x"),
        ("list", "--store", "klipper.bin"),
    ],
)
def test_user_error_is_exit_code_2_and_one_line_on_stderr(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fleetflash: ") and err.count("\n") == 1


@pytest.mark.parametrize("offset", ["-1", "8k", "", "0x"])
def test_bad_offset_is_a_usage_error(offset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*ADD, f"--offset={offset}", "klipper.bin")
    assert "0x2000" in capsys.readouterr().err


def test_offset_and_raw_reach_the_store(store: Store) -> None:
    assert run(*ADD, "--offset", "0x2000", "--raw", "--version", "1.0", "vendor.bin") == 0
    artifact = store.find()[0]
    assert (artifact.kind, artifact.version, artifact.files[0].offset) == ("raw", "1.0", 0x2000)


def test_list_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert capsys.readouterr().out.startswith("no artifacts in ")
    run(*ADD, "klipper.bin")
    run(*ADD, "--raw", "--version", "1.0", "--label", "factory", "vendor.bin")
    capsys.readouterr()
    for argv, versions in (
        ((), ["1.0", VERSION]),
        (("--label", "factory"), ["1.0"]),
        (("--version", VERSION), [VERSION]),
        (("--name", "other"), []),
        (("--chip", "CH32V203C8T6"), ["1.0", VERSION]),
    ):
        assert run("list", "--json", *argv) == 0
        assert [artifact["version"] for artifact in json.loads(capsys.readouterr().out)] == versions


def test_show(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(*ADD, "klipper.bin")
    artifact = store.find()[0]
    capsys.readouterr()
    assert run("show", artifact.id[:8]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", artifact.id]
    assert any(line.split() == ["constant", "CLOCK_FREQ", "144000000"] for line in lines)
    assert run("show", "--json", artifact.id) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["id"] == artifact.id
    assert Path(shown["directory"]).joinpath("firmware.bin").read_bytes() == klipper_bin()


def test_verify_is_exit_code_1_when_something_is_wrong(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(*ADD, "klipper.bin")
    capsys.readouterr()
    assert run("verify") == 0
    assert capsys.readouterr().out == "0 problems\n"
    artifact = store.find()[0]
    store.path(artifact, artifact.files[0]).unlink()
    assert run("verify") == 1
    out = capsys.readouterr().out
    assert artifact.short_id in out and "missing" in out and out.endswith("1 problem\n")
    assert run("verify", "--json") == 1
    assert json.loads(capsys.readouterr().out)[0]["artifact"] == artifact.id


def test_store_option_wins_over_the_environment(store: Store, tmp_path: Path) -> None:
    assert run(*ADD, "--store", str(tmp_path / "mine"), "klipper.bin") == 0
    assert store.find() == []
    assert len(Store(tmp_path / "mine").find()) == 1
