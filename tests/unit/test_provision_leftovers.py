"""What a killed change of a host has left is told and removed; what a living process uses, and what is whole, stays."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from provision_talk import Talk
from test_virtualenv import make_wheel

from fleetflash.agent import pending_restart, virtualenv
from fleetflash.agent.provision_leftovers import sweep


class Change:
    """A change that is killed while a program that it has started goes on."""

    def __init__(self, directory: Path, program: str, does: str, code: str) -> None:
        programs, self.pid = directory / "programs", directory / "pid"
        programs.mkdir()
        (programs / program).write_text(f"#!/bin/sh\n{does}\necho $$ >{self.pid}\nsleep 600 &\nwait\n")
        (programs / program).chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        self.process = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
        while not (self.pid.is_file() and self.pid.read_text()):
            assert self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End what it has started, too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        while Path("/proc", self.pid.read_text().strip()).exists():
            pass


def test_half_made_virtualenv_goes_once_nothing_builds_it_and_the_one_in_use_stays(tmp_path: Path) -> None:
    path, wheels = tmp_path / "klippy-env", tmp_path / "wheels"
    wanted = make_wheel(wheels)
    virtualenv.build(path, wanted, wheels)
    (tmp_path / ".klippy-env-link").symlink_to("nowhere")
    code = f"from fleetflash.agent.virtualenv import *; build(Path({str(path)!r}), 'thing==2', None)"
    change = Change(tmp_path, "python3", 'mkdir "$3"', code)
    change.kill()
    try:
        (link,) = sweep([], [path], [], remove=False)
        assert link.startswith("virtualenv ") and ".klippy-env-link: was not made to its end" in link
    finally:
        change.end()
    found = sweep([], [path], [], remove=False)
    assert len(found) == 2 and len(list((tmp_path / ".klippy-env-versions").iterdir())) == 2
    assert sweep([], [path], [], remove=True) == found
    assert virtualenv.flaw(path, wanted) == "" and not (tmp_path / ".klippy-env-link").is_symlink()
    assert list((tmp_path / ".klippy-env-versions").iterdir()) == [path.resolve()]
    assert sweep([], [path], [], remove=True) == []


def test_half_made_source_tree_goes_once_no_git_works_in_it(tmp_path: Path) -> None:
    path = tmp_path / "klipper"
    code = f"from fleetflash.agent.source_tree import *; move(Path({str(path)!r}), 'v1', '/none', None, False)"
    change = Change(tmp_path, "git", 'cd "$2"', code)
    change.kill()
    try:
        assert sweep([path], [], [], remove=True) == [] and (tmp_path / ".klipper-new").is_dir()
    finally:
        change.end()
    assert sweep([path], [], [], remove=True) == [f"source tree {tmp_path}/.klipper-new: was not made to its end"]
    assert not (tmp_path / ".klipper-new").exists()


def asked(talk: Talk, **request: Any) -> list[str]:
    answer = talk.ask("sweep", **{"trees": [], "environments": [], "remove": True, **request})
    assert answer["type"] == "swept"
    return [str(line) for line in answer["found"]]


def test_uploads_go_unless_somebody_has_them_open_or_a_change_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(tmp_path / "talk", monkeypatch)
    upload, wheels, other = (talk.spool / name for name in ("fleetflash-upload-a", "fleetflash-wheels-b", "upload-c"))
    helper = talk.spool / "fleetflash-helper-d"
    for path in (upload, other):
        path.write_bytes(b"half")
    wheels.mkdir()
    helper.mkdir()
    (tmp_path / ".klipper-new").mkdir()
    pending_restart.RUN.mkdir()
    with open(pending_restart.RUN / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert asked(talk) == [] and upload.exists()
    with open(upload, "rb") as arriving:
        sender = subprocess.Popen(["sleep", "600"], stdin=arriving)
        try:
            assert asked(talk, trees=[str(tmp_path / "klipper")]) == [
                f"upload {wheels}: was not made to its end",
                f"C helper in {helper}: was not made to its end",
                f"source tree {tmp_path}/.klipper-new: was not made to its end",
            ]
        finally:
            sender.kill()
            sender.wait()
    assert asked(talk, user="nobody-of-that-name") == [f"upload {upload}: was not made to its end"]
    assert list(talk.spool.iterdir()) == [other]
