"""The git checkout that klippy runs from: what it is at, and moved without losing anything that isn't in a commit.

Sources of the facts: git's own manual pages; Klipper's ``klippy/util.py``, which tells the version that klippy reports
as ``git describe --always --tags --long --dirty``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import List

from fleetflash.agent.account import Account, AccountError

#: Where in the repository's own directory things are kept for the time of a transaction; git and klippy never look.
ASIDE = "fleetflash"
#: What keeps the commit alive from which the code was moved last.
FORMER_REF = "refs/fleetflash/former"
#: Of the user's settings, those that would start programs or other work; everything else stays as the user has it.
SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "advice.detachedHead=false")


class CheckoutError(Exception):
    """The checkout is not as it must be. The message names it, and what git said."""


@dataclass(frozen=True)
class State:
    """Where a checkout is. ``branch``: empty when detached; ``dirty``: tracked files that differ from the commit."""

    commit: str
    version: str
    branch: str
    remote: str
    dirty: List[str]


class Checkout:
    """A git checkout of ``account``'s. Every method raises ``CheckoutError``."""

    def __init__(self, path: Path, account: Account):
        self.path = path
        self.account = account

    def state(self) -> State:
        """Look at it without changing anything, not even git's index."""
        if not self.path.is_dir():
            raise CheckoutError(f"{self.path} is not there")
        if not _exists(self.path / ".git"):
            raise CheckoutError(f"{self.path} is no git checkout")
        dirty = self.dirty()
        return State(
            commit=self.git("rev-parse", "--verify", "HEAD^{commit}"),
            # git describe --dirty would write the index, whatever GIT_OPTIONAL_LOCKS says (git 2.39).
            version=self.describe("HEAD") + ("-dirty" if dirty else ""),
            branch=self._maybe("symbolic-ref", "--quiet", "--short", "HEAD"),
            remote=self._maybe("config", "--get", "remote.origin.url"),
            dirty=dirty,
        )

    def dirty(self) -> List[str]:
        """Return the tracked files that differ from the commit, staged or not."""
        lines = self.git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none").splitlines()
        return [line.strip().split(None, 1)[-1] for line in lines]

    def describe(self, commit: str) -> str:
        """Return the version that klippy reports once this commit is checked out, and clean."""
        return self.git("describe", "--always", "--tags", "--long", commit)

    def directory(self) -> Path:
        """Return the repository's own directory."""
        return Path(self.git("rev-parse", "--absolute-git-dir"))

    def fetch(self, bundle: Path, tag: str) -> None:
        """Take commits from a bundle (git-bundle(1)), and the tag that gives the wanted commit its version.

        A tag of that name that the user has already is left alone.
        """
        heads = [line.split()[1] for line in self.git("bundle", "list-heads", str(bundle)).splitlines()]
        self.git("fetch", "--quiet", "--no-write-fetch-head", "--no-tags", str(bundle), *heads[:1])
        name = f"refs/tags/{tag}"
        if name in heads and not self._maybe("rev-parse", "--verify", "--quiet", name):
            self.git("fetch", "--quiet", "--no-write-fetch-head", "--no-tags", str(bundle), f"{name}:{name}")

    def keep(self, commit: str) -> None:
        """Keep git from ever forgetting a commit that no branch may hold."""
        self.git("update-ref", FORMER_REF, commit)

    def check_move(self, commit: str) -> None:
        """Raise unless the commit is here completely and could be checked out over what lies there now."""
        if not self.has(commit):
            raise CheckoutError(f"{self.path}: commit {commit[:12]} is not here completely; run again")
        owner = self.account.entry.pw_name
        if foreign := self._run(["find", ".", "-xdev", "!", "-user", owner, "-print", "-quit"]):
            raise CheckoutError(f"{self.path}: {foreign} is not {owner}'s; sudo chown -R {owner}: {self.path}")
        # git-read-tree(1) compares times, not contents: the index has to know those of now. It fails for changed files.
        self._maybe("update-index", "-q", "--refresh")
        # Ignored files, too: nothing that git does not track may be overwritten.
        self.git("read-tree", "--dry-run", "-m", "-u", "HEAD", commit)
        ours = [name for name in self._new_files(commit) if _exists(self.path / name)]
        if ours:
            raise CheckoutError(f"{self.path}: {ours[0]} is not tracked by git and would be overwritten; move it away")

    def move(self, commit: str) -> None:
        """Check a commit out, detached."""
        self.git("checkout", "--quiet", "--no-overwrite-ignore", "--detach", commit)

    def move_back(self, former: str, branch: str, directory: Path, moved_to: str) -> None:
        """Bring back ``former`` from whatever a death has left of a move to ``moved_to``.

        ``directory``: the repository's own, as it was found before; ``branch`` is taken up again if it is still there.
        """
        # A checkout that was killed, or lost its power, leaves its locks, half an index and perhaps no HEAD.
        locks = [str(directory / name) for name in ("index.lock", "HEAD.lock")]
        self._run(["rm", "-f", "--", *locks])
        if not self._maybe("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
            self._run(["sh", "-c", 'echo "$1" >"$2.new" && mv "$2.new" "$2"', "sh", former, f"{directory}/HEAD"])
        # An index that knows no file's time: every file is written anew, and those that only the other commit had go.
        self._run(["rm", "-f", "--", f"{directory}/index"])
        self.git("read-tree", moved_to)
        self.git("checkout", "--quiet", "--force", "--detach", former)
        if branch and self._maybe("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}") == former:
            self.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def has(self, commit: str) -> bool:
        """Whether a commit is here with everything that belongs to it."""
        try:
            self.git("rev-list", "--objects", "--quiet", "--no-walk", commit)
        except CheckoutError:
            return False
        return True

    def is_at(self, commit: str) -> bool:
        """Whether it is at that commit, and clean."""
        return self.git("rev-parse", "--verify", "HEAD^{commit}") == commit and not self.dirty()

    def changes(self, former: str, commit: str, part: str) -> bool:
        """Whether two commits differ below the path ``part``."""
        return bool(self.git("diff", "--name-only", former, commit, "--", part))

    def sync(self) -> None:
        """Have everything of the checkout's file system on the disk (sync(1), ``--file-system``)."""
        self._run(["sync", "--file-system", str(self.path)])

    def git(self, *arguments: str) -> str:
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        return self._run(["git", "--no-optional-locks", *settings, *arguments])

    def _new_files(self, commit: str) -> List[str]:
        found = self.git("diff", "--name-only", "-z", "--no-renames", "--diff-filter=A", "HEAD", commit)
        return [name for name in found.split("\0") if name]

    def _maybe(self, *arguments: str) -> str:
        """What git says; empty when it has no answer."""
        try:
            return self.git(*arguments)
        except CheckoutError:
            return ""

    def _run(self, command: List[str]) -> str:
        try:
            return self.account.run(command, str(self.path), GIT_TERMINAL_PROMPT="0")
        except AccountError as error:
            raise CheckoutError(f"{self.path}: {error}") from error


def place(path: str, account: Account) -> Path:
    """Return where a service's checkout lies: ``path``, with ``~`` for its user's home, or ``~/klipper``."""
    wanted = path or "~/klipper"
    return Path(account.home) / wanted[2:] if wanted.startswith("~/") else Path(wanted)


def _exists(path: Path) -> bool:
    """Whether something has that name, be it a link that leads nowhere."""
    return path.is_symlink() or path.exists()
