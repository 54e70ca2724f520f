"""What goes to a builder is described by git as it is here, without the history's files."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from fleetflash.build.overlay import Overlay
from fleetflash.build.shipment import pack_source, pack_tree
from fleetflash.build.source import Sources
from tests.firmware_source import FirmwareSource

DESCRIBE = ("describe", "--always", "--tags", "--long", "--abbrev=8", "--dirty")


@pytest.fixture
def source(tmp_path: Path) -> FirmwareSource:
    return FirmwareSource(tmp_path / "klipper")


def shipped(source: FirmwareSource, to: Path, ref: str) -> tuple[str, str]:
    """Pack a commit and unpack it elsewhere; returns its version here and there."""
    sources = Sources.below(to / "cache")
    packed = io.BytesIO()
    with sources.worktree(sources.resolve(str(source.path), ref), Overlay("")) as tree:
        (tree.path / ".config").write_text("CONFIG_A=y\n")
        pack_source(tree.path, packed)
        version = tree.version
        assert sorted(path.name for path in tree.path.parent.iterdir()) == ["klipper"]
    packed.seek(0)
    with tarfile.open(fileobj=packed, mode="r|gz") as archive:
        archive.extractall(to / "there")
    return version, git(to / "there", *DESCRIBE)


def git(tree: Path, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout.strip()


def test_version_is_the_same_there(source: FirmwareSource, tmp_path: Path) -> None:
    """With a lightweight and an annotated tag on one commit, and a branch from before the tag that is merged after."""
    source.git("checkout", "--quiet", "-b", "side")
    source.commit()
    source.git("checkout", "--quiet", "main")
    source.commit("light")
    source.git("tag", "--annotate", "--message", "Annotated", "v0.2.0")
    source.git("tag", "--annotate", "--message", "Of a tag", "nested", "v0.2.0")
    source.commit()
    source.git("merge", "--quiet", "--no-ff", "--message", "Merge", "side")
    commit = source.git("rev-parse", "HEAD").strip()
    here, there = shipped(source, tmp_path, commit)
    assert here == there and here.endswith(f"-3-g{commit[:8]}")


def test_change_makes_the_tree_dirty_there_and_nothing_else_does(source: FirmwareSource, tmp_path: Path) -> None:
    here, there = shipped(source, tmp_path, "v0.1.0")
    assert here == there
    (tmp_path / "there/src/main.c").write_text("changed\n")
    assert git(tmp_path / "there", *DESCRIBE) == f"{here}-dirty"


def test_files_of_earlier_commits_stay_here(source: FirmwareSource, tmp_path: Path) -> None:
    old = source.git("rev-parse", "HEAD:src/main.c").strip()
    source.replace("src/main.c", "int\nmain", "int main")
    source.commit("v0.2.0")
    shipped(source, tmp_path, "v0.2.0")
    new = source.git("rev-parse", "HEAD:src/main.c").strip()
    there = git(tmp_path / "there", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").splitlines()
    assert new in there and old not in there


def test_configuration_is_younger_than_the_source(source: FirmwareSource, tmp_path: Path) -> None:
    """Otherwise make would complete it once more."""
    shipped(source, tmp_path, "v0.1.0")
    config, kconfig = tmp_path / "there/.config", tmp_path / "there/src/Kconfig"
    assert config.stat().st_mtime > kconfig.stat().st_mtime > 0


def test_equal_trees_make_equal_tars(tmp_path: Path) -> None:
    found = []
    for name, mode in (("one", 0o700), ("two", 0o777)):
        tree = tmp_path / name
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/gcc").write_text("#!/bin/sh\n")
        (tree / "bin/gcc").chmod(mode)
        (tree / "bin/cc").symlink_to("gcc")
        packed = io.BytesIO()
        pack_tree(tree, packed)
        found.append(packed.getvalue())
    assert found[0] == found[1]
