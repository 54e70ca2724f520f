"""The small firmware tree as a git repository that a test may change; equal contents make equal commits."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

TREE = Path(__file__).parent / "firmware_tree"
_IDENTITY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} | {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Tester"), ("EMAIL", "tester@example.org"), ("DATE", "2026-01-01T00:00:00Z"))
}


class FirmwareSource:
    """The repository at ``path``, made of a tree; its first commit is tagged ``v0.1.0``, or as ``tag`` says."""

    def __init__(self, path: Path, tree: Path = TREE, tag: str = "v0.1.0") -> None:
        self.path = path
        shutil.copytree(tree, path)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(tag)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(
            command, env={**os.environ, **_IDENTITY}, check=True, capture_output=True, text=True
        ).stdout

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a file; the test is wrong when ``old`` isn't in it."""
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))

    def add_kconfiglib(self) -> None:
        """Put Kconfig's library into the tree, where Klipper has its own: Debian's Python knows none."""
        for name in ("kconfiglib", "genconfig", "olddefconfig"):
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None
            shutil.copy(spec.origin, self.path)

    def commit(self, tag: str | None = None) -> str:
        """Commit everything and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", f"Version {tag}" if tag else "Change")
        if tag is not None:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD").strip()
