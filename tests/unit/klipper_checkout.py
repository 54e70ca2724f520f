"""A git checkout of Klipper's layout with two versions, v1 and v2, in a temporary directory."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleetflash.agent.schema import HostCode

V1, V2 = "v1", "v2"
USER = "root" if os.geteuid() == 0 else ""
#: As Klipper's own does it: run as a program, it builds the helper beside itself.
BUILDS = """\
import pathlib, subprocess
here = pathlib.Path(__file__).parent
subprocess.run(["gcc", "-shared", "-fPIC", "-o", here / "c_helper.so", here / "helper.c"], check=True)
"""
IGNORED = "*.so\n*.pyc\n"


@dataclass
class Repository:
    """``v1`` and ``v2``: the commits of the two versions."""

    path: Path
    v1: str = ""
    v2: str = ""

    def git(self, *arguments: str) -> str:
        identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t"}
        environment = {**os.environ, **identity, "GIT_COMMITTER_EMAIL": "t@t", "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, tag: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", tag)
        self.git("tag", tag)
        return self.git("rev-parse", "HEAD")

    def version(self) -> str:
        """As klippy finds out when it starts."""
        return self.git("describe", "--always", "--tags", "--long", "--dirty")

    def content(self) -> dict[str, str]:
        """Every file of the checkout, and what HEAD says."""
        files = [path for path in self.path.rglob("*") if path.is_file() and ".git" not in path.parts]
        found = {str(path.relative_to(self.path)): path.read_bytes().decode(errors="replace") for path in files}
        return {**found, "HEAD": (self.path / ".git/HEAD").read_text()}

    @property
    def helper(self) -> Path:
        return self.path / "klippy/chelper/c_helper.so"

    def move(self, **changes: object) -> HostCode:
        """What a transaction has to do to bring v1 to v2."""
        fields: dict[str, object] = {
            "path": str(self.path),
            "user": USER,
            "python": "/usr/bin/python3",
            "former": self.v1,
            "wanted": self.v2,
            **changes,
        }
        return HostCode(**fields)  # type: ignore[arg-type]


def make_checkout(path: Path, *, helper_changes: bool = False) -> Repository:
    """A checkout on the branch main, at v1, with a helper that is newer than its sources and a file of the user's."""
    path.mkdir(parents=True)
    found = Repository(path)
    found.git("init", "--quiet", "--initial-branch=main")
    found.write(".gitignore", IGNORED)
    found.write("klippy/klippy.py", "print(1)\n")
    found.write("klippy/extras/only_v1.py", "1\n")
    found.write("klippy/chelper/__init__.py", BUILDS)
    found.write("klippy/chelper/helper.c", "int version(void) { return 1; }\n")
    found.v1 = found.commit(V1)
    found.git("checkout", "--quiet", "-b", "next")
    found.write("klippy/klippy.py", "print(2)\n")
    found.git("rm", "--quiet", "klippy/extras/only_v1.py")
    found.write("klippy/extras/only_v2.py", "2\n")
    if helper_changes:
        found.write("klippy/chelper/helper.c", "int version(void) { return 2; }\n")
    found.v2 = found.commit(V2)
    found.git("checkout", "--quiet", "main")
    found.git("branch", "--quiet", "-D", "next")
    found.write("klippy/chelper/c_helper.so", "built from v1")
    found.write("klippy/extras/mine.py", "the user's own\n")
    return found
