"""Klipper's code as a git repository of two versions, and hosts of the lab whose klippy runs from a checkout of it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab.host import Host

V1, V2 = "v1", "v2"
CHECKOUT = "/home/pi/klipper"
#: What only v2 has: a module, and a function in the C helper.
MODULE = "klippy/extras/second_version.py"
FUNCTION = "second_version"
_IGNORED = "*.so\n__pycache__/\nklippy/.version\n"
#: Stands for a compiler, which lab hosts don't have: what it makes of a version's sources was compiled elsewhere.
_COMPILER = f"""\
#!/bin/sh
made=helper-v1.so
while [ $# -gt 0 ]; do
    case "$1" in
    -o) out=$2; shift;;
    *.c) grep -qs {FUNCTION} "$1" && made=helper-v2.so;;
    esac
    shift
done
[ "$out" = /dev/null ] || cp "/home/pi/$made" "$out"
"""


@dataclass(frozen=True)
class Source:
    """``helper``: the C helper of v2; ``bundle``: v1 alone."""

    repository: Path
    helper: Path
    bundle: Path


def make_source(root: Path, directory: Path) -> Source:
    """Commit klippy as a host's root file system has it as v1, and a version of it that differs as v2."""
    repository = directory / "klipper.git-work"
    shutil.copytree(
        root / CHECKOUT[1:], repository, ignore=shutil.ignore_patterns("*.so", "__pycache__", ".version", ".git")
    )
    (repository / ".gitignore").write_text(_IGNORED)
    _git(repository, "init", "--quiet", "--initial-branch=main")
    _commit(repository, V1)
    bundle = directory / "v1.bundle"
    _git(repository, "bundle", "create", "--quiet", str(bundle), "main", V1)
    (repository / MODULE).write_text('"""A module that the first version does not have."""\n')
    chelper = repository / "klippy/chelper"
    with (chelper / "pyhelper.c").open("a") as file:
        file.write(f"\nint {FUNCTION}(void) {{ return 2; }}\n")
    _commit(repository, V2)
    helper = directory / "helper-v2.so"
    sources = sorted(chelper.glob("*.c"))
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", helper, *sources], check=True)
    return Source(repository, helper, bundle)


def install(source: Source, host: Host) -> bool:
    """Make a checkout of v1 out of a host's Klipper; klippy's files stay as they are. False when it is one already."""
    if host.run(f"test -e {CHECKOUT}/.git").returncode == 0:
        return False
    put(host, source.bundle, "/home/pi/v1.bundle")
    put(host, source.helper, "/home/pi/helper-v2.so")
    git = f"git -C {CHECKOUT}"
    host.run(
        f"set -e; cp -p {CHECKOUT}/klippy/chelper/c_helper.so helper-v1.so; git init -q -b main {CHECKOUT}; "
        f"{git} fetch -q /home/pi/v1.bundle main tag {V1}; {git} reset -q --mixed FETCH_HEAD; "
        f'{git} show HEAD:.gitignore >{CHECKOUT}/.gitignore; test -z "$({git} status --porcelain)"',
        check=True,
    )
    host.run("sudo tee /usr/local/bin/gcc >/dev/null && sudo chmod 755 /usr/local/bin/gcc", stdin=_COMPILER, check=True)
    return True


def back_to_v1(host: Host) -> None:
    """Check v1 out, with its helper, as a person would."""
    helper = f"{CHECKOUT}/klippy/chelper/c_helper.so"
    host.run(
        f"set -e; cd {CHECKOUT}; rm -f .git/*.lock; git checkout -q -f main; "
        f"cp ~/helper-v1.so {helper}; touch {helper}",
        check=True,
    )


def put(host: Host, file: Path, place: str) -> None:
    """Copy a file to a host."""
    with file.open("rb") as stream:
        subprocess.run([*host.ssh_command(), f"cat >{place}"], stdin=stream, check=True)


def code_version(host: Host) -> str:
    """What klippy says that it is."""
    answer = host.run(
        "python3 -c 'import json, urllib.request as u;"
        'print(json.load(u.urlopen("http://127.0.0.1:7125/printer/info"))["result"]["software_version"])\'',
        check=True,
    )
    return answer.stdout.strip()


def problem_of_code(host: Host, version: str) -> str:
    """Say what of a host's code is not that of ``version``; files, helper, git's own state and owners are looked at."""
    said = code_version(host)
    if not said.startswith(f"{version}-0-g") or said.endswith("-dirty"):
        return f"klippy is {said}"
    look = f"cd {CHECKOUT}; git status --porcelain; git rev-parse HEAD {version}^0; ls .git/*.lock .git/fleetflash; "
    look += f"find . ! -user pi; test -e {MODULE} && echo module; "
    look += f"grep -q {FUNCTION} klippy/chelper/c_helper.so && echo helper"
    lines = host.run(look).stdout.splitlines()
    expected = ["module", "helper"] if version == V2 else []
    return "" if len(set(lines[:2])) == 1 and lines[2:] == expected else f"the checkout is {lines}"


def _commit(repository: Path, tag: str) -> None:
    _git(repository, "add", "--all", "--force")
    _git(repository, "commit", "--quiet", "--message", f"Version {tag}")
    _git(repository, "tag", tag)


def _git(repository: Path, *arguments: str) -> None:
    person = {"GIT_AUTHOR_NAME": "lab", "GIT_AUTHOR_EMAIL": "lab@localhost", "GIT_COMMITTER_NAME": "lab"}
    environment = {**os.environ, **person, "GIT_COMMITTER_EMAIL": "lab@localhost", "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", "-C", str(repository), *arguments], check=True, env=environment)
