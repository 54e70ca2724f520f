"""klippy's C helper is built before klippy needs it: whole or not at all, and only when its sources ask for it."""

import ctypes
import os
import shutil
from pathlib import Path

import pytest
from klipper_checkout import Repository, make_checkout
from provision_talk import Talk


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    return Talk(tmp_path / "talk", monkeypatch)


@pytest.fixture
def checkout(tmp_path: Path) -> Repository:
    """One that nobody has started a klippy from, and its virtualenv."""
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to("/usr/bin/python3")
    found = make_checkout(tmp_path / "klipper")
    found.helper.unlink()
    return found


def flaw(talk: Talk, checkout: Repository) -> str:
    answer = talk.ask("look", trees={str(checkout.path): checkout.v1}, environments={}, services=[])
    return str(answer["helpers"][str(checkout.path)])


def build(talk: Talk, checkout: Repository) -> str:
    """Return why it was refused, if it was."""
    environment = str(checkout.path.parent / "env")
    answer = talk.ask("helper", path=str(checkout.path), environment=environment, services=[])
    assert not list(talk.spool.iterdir())
    return str(answer.get("message", ""))


def version(checkout: Repository, directory: Path) -> int:
    """Load the helper, under a name of its own each time, as the loader knows libraries by name."""
    copy = shutil.copy(checkout.helper, directory / f"helper-{len(list(directory.iterdir()))}.so")
    return int(ctypes.CDLL(str(copy)).version())


def test_helper_is_built_once_and_again_when_a_source_is_newer(
    talk: Talk, checkout: Repository, tmp_path: Path
) -> None:
    assert flaw(talk, checkout) == "is not built"
    assert build(talk, checkout) == ""
    assert flaw(talk, checkout) == "" and version(checkout, tmp_path) == 1
    made = checkout.helper.stat()
    assert build(talk, checkout) == "" and checkout.helper.stat() == made

    checkout.write("klippy/chelper/helper.c", "int version(void) { return 2; }\n")
    os.utime(checkout.path / "klippy/chelper/helper.c", (made.st_mtime + 60, made.st_mtime + 60))
    assert flaw(talk, checkout) == "is older than its sources"
    assert build(talk, checkout) == ""
    assert flaw(talk, checkout) == "" and version(checkout, tmp_path) == 2
    assert checkout.helper.stat().st_ino != made.st_ino, "a klippy that runs has the former one mapped"


def test_helper_that_does_not_compile_is_told_in_the_compilers_words_and_the_former_one_stays(
    talk: Talk, checkout: Repository
) -> None:
    assert build(talk, checkout) == ""
    former = checkout.helper.read_bytes()
    checkout.write("klippy/chelper/helper.c", "int version(void) { return nothing; }\n")
    later = checkout.helper.stat().st_mtime + 60
    os.utime(checkout.path / "klippy/chelper/helper.c", (later, later))
    assert f"{checkout.helper} does not build" in build(talk, checkout)
    assert checkout.helper.read_bytes() == former


def test_host_without_a_compiler_is_told_so(talk: Talk, checkout: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    assert build(talk, checkout).endswith("there is no gcc that could build it; apt-get install gcc on the host")


def test_source_tree_without_a_helper_needs_none(talk: Talk, checkout: Repository) -> None:
    shutil.rmtree(checkout.path / "klippy/chelper")
    assert flaw(talk, checkout) == ""
