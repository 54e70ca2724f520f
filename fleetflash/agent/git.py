"""git on the host, run for the user who owns a checkout: with no hooks, no questions, and English messages."""

import os
import subprocess
from pathlib import Path
from typing import List, Tuple

#: A fetch over a slow line may take its time; a git that hangs must end all the same, in seconds.
GIT_SECONDS = 900.0


class GitError(Exception):
    """git is not there, or refused. One line with git's own last words."""


def git(directory: Path, *arguments: str, **environment: str) -> str:
    """Run git in a directory and return what it printed, without its last line break; raises ``GitError``."""
    command = ["git", "-C", str(directory), "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"]
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    surroundings.update({"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **environment})
    try:
        answer = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=GIT_SECONDS,
            env=surroundings,
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed on this host; put it into packages, or: apt-get install git") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]} did not end within {GIT_SECONDS:.0f} s") from error
    if answer.returncode:
        raise GitError(f"git {arguments[0]}: {_reason(answer.stderr)}")
    return answer.stdout.decode(errors="replace").rstrip("\n")


def commit_of(directory: Path, name: str) -> str:
    """Return the full commit that a name means in a repository, or nothing when it means none there."""
    quiet = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    try:
        return git(directory, *quiet, f"{name}^{{commit}}")
    except GitError:
        return ""


def is_repository(directory: Path) -> bool:
    """Whether git itself takes a directory for the top of a checkout."""
    if not (directory / ".git").exists():
        return False
    try:
        git(directory, "rev-parse", "--git-dir")
    except GitError:
        return False
    return True


def changes(directory: Path) -> Tuple[List[str], List[str]]:
    """Return the names of files that differ from what is committed, and of those that git doesn't know."""
    lines = git(directory, "status", "--porcelain", "--untracked-files=normal", GIT_OPTIONAL_LOCKS="0").splitlines()
    known = [line[3:] for line in lines if not line.startswith("??")]
    return known, [line[3:] for line in lines if line.startswith("??")]


def _reason(error: bytes) -> str:
    lines = [line.strip() for line in error.decode(errors="replace").splitlines() if line.strip()]
    told: List[str] = []
    for line in lines:
        # What ends with a colon is said in the next line.
        if line.startswith(("fatal:", "error:")) or (told and told[-1].endswith(":")):
            told.append(line)
    told = told or lines[-1:] or ["failed"]
    return " ".join(told)[:400]
