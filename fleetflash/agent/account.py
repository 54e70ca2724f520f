"""The user that a Klipper service runs as, and programs that run as that user: root must leave nothing of its own."""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any, Dict, List

#: A program that says nothing for this long has failed, in seconds; building the C helper on a slow Pi takes a minute.
TIMEOUT = 300.0


class AccountError(Exception):
    """There is no such user, or a program that ran as that user failed. The message says which, and why."""


class Account:
    """``name``: as systemd's ``User=`` says it; empty means root.

    Another user than one's own can be taken on by root alone.
    """

    def __init__(self, name: str):
        try:
            self.entry = pwd.getpwnam(name or "root")
        except KeyError as error:
            raise AccountError(f"user {name} is not on this host") from error

    @classmethod
    def own(cls) -> "Account":
        """The account of this very process."""
        return cls(pwd.getpwuid(os.geteuid()).pw_name)

    @property
    def home(self) -> str:
        return self.entry.pw_dir

    def run(self, command: List[str], directory: str, **environment: str) -> str:
        """Run a program in a directory and return what it printed, without blanks around it.

        Nothing of the caller's environment reaches it. Raises ``AccountError`` with the program's own last words.
        """
        settings = {"HOME": self.home, "USER": self.entry.pw_name, "LOGNAME": self.entry.pw_name, "LC_ALL": "C"}
        settings["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        try:
            result = subprocess.run(
                command,
                cwd=directory,
                env={**settings, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT,
                umask=0o022,
                **self._identity(),
            )
        except FileNotFoundError as error:
            raise AccountError(f"{error.filename} is not on this host") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AccountError(f"{' '.join(command[:3])}: {error}") from error
        if result.returncode:
            raise AccountError(f"{_name(command)}: {_reason(result.stderr) or f'exit code {result.returncode}'}")
        return str(result.stdout.decode(errors="replace").strip())

    def _identity(self) -> Dict[str, Any]:
        if os.geteuid() == self.entry.pw_uid:
            return {}
        groups = os.getgrouplist(self.entry.pw_name, self.entry.pw_gid)
        return {"user": self.entry.pw_uid, "group": self.entry.pw_gid, "extra_groups": groups}


def _name(command: List[str]) -> str:
    """Return a program's name, for git with its subcommand."""
    words = [word for word in command[1:] if not word.startswith("-") and "=" not in word]
    name = Path(command[0]).name
    return f"{name} {words[0]}" if name == "git" and words else name


def _reason(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    return " ".join(line.split(": ", 1)[1] if line.startswith(("fatal: ", "error: ")) else line for line in told)
