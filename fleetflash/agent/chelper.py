"""klippy's compiled C helper: built ahead for another commit, put in place, put back.

Sources of the facts: Klipper's ``docs/Packaging.md``, section "C modules" (running ``klippy/chelper/__init__.py``
builds it); ``klippy/chelper/__init__.py`` itself, which builds it again, with gcc, when any of its sources is newer.
"""

import os
import shutil
from pathlib import Path

from fleetflash.agent.account import Account, AccountError

SOURCES = "klippy/chelper"
NAME = "c_helper.so"
#: What was found before: one that klippy would load as it is, one that it would build again, or none.
CURRENT, STALE, ABSENT = "current", "stale", "absent"


class HelperError(Exception):
    """The helper can't be built or put in place. The message says why, and what to do."""


class CHelper:
    """The helper of a checkout. ``aside``: a directory of the same file system for what waits or is kept.

    Every method raises ``HelperError``. All is done as the checkout's user.
    """

    def __init__(self, checkout: Path, aside: Path, account: Account):
        self.directory = checkout / SOURCES
        self.path = self.directory / NAME
        self.aside = aside
        self.account = account
        self.kept = aside / f"former-{NAME}"
        self.built = aside / f"built-{NAME}"

    def found(self) -> str:
        """Return ``current``, ``stale`` or ``absent``."""
        try:
            made = self.path.lstat().st_mtime
        except OSError:
            return ABSENT
        return CURRENT if self._newest_source() <= made else STALE

    def keep(self) -> None:
        """Keep the one that is there for the way back."""
        if self.found() != ABSENT:
            self._run("cp", "--preserve=mode,timestamps", "--", str(self.path), str(self.kept))

    def build(self, archive: Path, python: str) -> None:
        """Build the one of another commit beside. ``archive``: a tar file of its sources; ``python``: klippy's own."""
        self._check_tools("differs in the wanted version", python)
        self._run("tar", "--extract", "--file", str(archive), "--directory", str(self.aside))
        self._build(python, "klippy's C helper of the wanted version")

    def renew(self, python: str) -> None:
        """Build the one of the checkout's own sources and put it in place. ``python``: klippy's own."""
        self._check_tools("is not built", python)
        sources = self.aside / SOURCES
        self._run("mkdir", "--parents", "--", str(sources.parent))
        self._run("cp", "--recursive", "--", str(self.directory), str(sources))
        self._run("rm", "-f", "--", str(sources / NAME))
        self._build(python, str(self.path))
        self.put(self.built)

    def put(self, source: Path) -> None:
        """Put ``built`` or ``kept`` in place in one step, newer than every source, so that klippy takes it as it is."""
        draft = str(self.directory / f".{NAME}.new")
        self._run("cp", "--preserve=mode", "--", str(source), draft)
        self._run("touch", "--no-dereference", f"--date=@{self._newest_source() + 1:.0f}", "--", draft)
        self._run("sync", "--", draft)
        self._run("mv", "--force", "--no-target-directory", "--", draft, str(self.path))

    def remove(self) -> None:
        """Leave it to klippy to build one."""
        self._run("rm", "-f", "--", str(self.path))

    def _check_tools(self, why: str, python: str) -> None:
        if shutil.which("gcc", path="/usr/local/bin:/usr/bin:/bin") is None:
            raise HelperError(
                f"klippy's C helper {why}, and there is no gcc that could build it; apt-get install gcc on the host"
            )
        if not python:
            raise HelperError("nobody can say which Python klippy runs in, to build its C helper; start Klipper once")

    def _build(self, python: str, what: str) -> None:
        """Build from the sources that lie aside."""
        sources = self.aside / SOURCES
        try:
            self._run(python, "-B", str(sources / "__init__.py"))
            self._run("mv", "--no-target-directory", "--", str(sources / NAME), str(self.built))
        except HelperError as error:
            raise HelperError(f"{what} does not build: {error}") from error

    def _newest_source(self) -> float:
        sources = [entry for entry in os.scandir(self.directory) if entry.name.endswith((".c", ".h", ".py"))]
        return max((entry.stat(follow_symlinks=False).st_mtime for entry in sources), default=0.0)

    def _run(self, *command: str) -> None:
        try:
            self.account.run(list(command), str(self.aside))
        except (AccountError, OSError) as error:
            raise HelperError(str(error)) from error
