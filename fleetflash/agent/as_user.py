"""Doing a piece of work as the user whose files it is about, in a process of its own."""

import os
import pwd
import sys
import traceback
from pathlib import Path
from typing import Callable


class NoUserError(Exception):
    """There is no such user on this host."""


def home(user: str) -> Path:
    """Return a user's home directory; raises ``NoUserError``."""
    try:
        return Path(pwd.getpwnam(user).pw_dir)
    except KeyError as error:
        raise NoUserError(f"there is no user {user} on this host") from error


def run_as(user: str, work: Callable[[], int]) -> int:
    """Run ``work`` as a user and return what it returned; 1 when it raised or was killed."""
    entry = pwd.getpwnam(user)
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    code = 1
    try:
        if os.geteuid() == 0:
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        os.environ.update({"HOME": entry.pw_dir, "USER": user, "LOGNAME": user})
        os.umask(0o022)
        os.chdir(entry.pw_dir)
        code = work()
    except BaseException:  # a child must never return into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
