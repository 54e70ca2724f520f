"""Klipper's own code in a transaction: prepared while Klipper runs, moved while it is stopped, back with the boards.

What it takes to bring it back lies in the journal (step ``prepared``) and in the repository's own directory, both on
the disk before Klipper is stopped.
"""

import shutil
import sys
import time
from pathlib import Path

from fleetflash.agent import disk, klippers
from fleetflash.agent.account import Account, AccountError
from fleetflash.agent.checkout import ASIDE, Checkout, CheckoutError
from fleetflash.agent.chelper import CURRENT, SOURCES, CHelper, HelperError
from fleetflash.agent.history import prepared
from fleetflash.agent.record import Record
from fleetflash.agent.schema import HOST_CODE, HostCode
from fleetflash.agent.store import Store, StoreError

#: What must be free on the checkout's file system: the code twice over, and its objects.
SPARE_BYTES = 128 << 20
#: What can be wrong with the host's code.
HOST_CODE_ERRORS = (AccountError, CheckoutError, HelperError, StoreError, OSError)


class HostCodeMove:
    """Moves the host's checkout. Every method raises one of ``HOST_CODE_ERRORS``, in one line."""

    def __init__(self, code: HostCode, record: Record, store: Store):
        self.code = code
        self.record = record
        self.store = store

    def prepare(self) -> None:
        """Bring all that the move and its way back need to the host; nothing that klippy uses is touched."""
        checkout = self._checkout()
        self._check_unchanged(checkout)
        self._check_room()
        self._check_alone(checkout)
        if self.code.bundle is not None:
            self.store.read_image(self.code.bundle.sha256)
            bundle = self.store.image(self.code.bundle.sha256)
            # Commits are no secret, and the git that reads them is the user's.
            bundle.chmod(0o644)
            checkout.fetch(bundle, self.code.bundle.tag)
        checkout.check_move(self.code.wanted)
        checkout.keep(self.code.former)
        directory = checkout.directory()
        helper = self._fresh_helper(checkout, directory)
        found = helper.found()
        helper.keep()
        builds = checkout.changes(self.code.former, self.code.wanted, SOURCES)
        if builds:
            archive = directory / ASIDE / "sources.tar"
            checkout.git("archive", f"--output={archive}", self.code.wanted, SOURCES)
            helper.build(archive, self.code.python)
        checkout.sync()
        self.record.log(
            "prepared",
            board=HOST_CODE,
            branch=checkout.state().branch,
            directory=str(directory),
            version=checkout.describe(self.code.wanted),
            helper=found,
            builds=builds,
        )

    def move(self) -> None:
        """Check the wanted commit out and put its helper in place. Klipper must be stopped."""
        started = time.monotonic()
        checkout = self._checkout()
        self._check_unchanged(checkout)
        self.record.log("checkout", board=HOST_CODE, former=self.code.former, wanted=self.code.wanted)
        checkout.move(self.code.wanted)
        if self._prepared("builds"):
            helper = self._helper()
            helper.put(helper.built)
        if not checkout.is_at(self.code.wanted):
            raise CheckoutError(f"{self.code.path}: it is not at {self.code.wanted[:12]} after it was checked out")
        checkout.sync()
        self.record.log("checked-out", board=HOST_CODE, version=self.version)
        self.record.results[HOST_CODE]["seconds"] = round(time.monotonic() - started, 2)

    def take_back(self) -> None:
        """Bring the former commit and helper back, whatever a death has left of the move. Klipper must be stopped."""
        checkout = self._checkout()
        directory, branch = Path(str(self._prepared("directory"))), str(self._prepared("branch"))
        checkout.move_back(self.code.former, branch, directory, self.code.wanted)
        helper = self._helper()
        if self._prepared("helper") == CURRENT:
            helper.put(helper.kept)
        elif self._prepared("builds"):
            helper.remove()
        if not checkout.is_at(self.code.former):
            raise CheckoutError(f"{self.code.path}: it is not at {self.code.former[:12]} after it was taken back")
        checkout.sync()

    def finish(self) -> None:
        """Clear away what was kept for the time of the transaction; what stays behind is cleared by the next."""
        try:
            if self.code.bundle is not None:
                disk.remove(self.store.image(self.code.bundle.sha256))
            if self._prepared("directory"):
                Account(self.code.user).run(["rm", "-rf", "--", str(self._aside())], "/")
        except (AccountError, OSError) as error:
            print(f"{self.code.path}: {error}", file=sys.stderr)

    @property
    def version(self) -> str:
        """What klippy must report once it runs the wanted commit."""
        return str(self._prepared("version"))

    def difference(self, version: str) -> str:
        """Say how what klippy reports of itself differs from what was checked out; empty when it doesn't."""
        if version == self.version:
            return ""
        return (
            f"klippy reports version {version or 'unknown'}, expected {self.version}; is {self.code.path} what it runs?"
        )

    def _checkout(self) -> Checkout:
        return Checkout(Path(self.code.path), Account(self.code.user))

    def _check_unchanged(self, checkout: Checkout) -> None:
        state = checkout.state()
        if state.commit != self.code.former:
            raise CheckoutError(
                f"{self.code.path} is at {state.commit[:12]}, the plan saw {self.code.former[:12]}; run again"
            )
        if state.dirty:
            raise CheckoutError(
                f"{self.code.path} has uncommitted changes by now ({state.dirty[0]}); nothing was moved"
            )

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.code.path).free
        if free < SPARE_BYTES:
            needed = f"{SPARE_BYTES >> 20} MiB needed"
            raise CheckoutError(f"{self.code.path}: only {free >> 20} MiB free, {needed}; make room")

    def _check_alone(self, checkout: Checkout) -> None:
        if others := klippers.others(checkout.path, self.record.transaction.service):
            raise CheckoutError(
                f"{checkout.path}: process {others[0]}, another Klipper, runs from it, too; give each its own checkout "
                "(klipper_path), or take policy compatible"
            )

    def _fresh_helper(self, checkout: Checkout, directory: Path) -> CHelper:
        """Return the helper with an empty directory for what is kept aside."""
        aside = directory / ASIDE
        checkout.account.run(["rm", "-rf", "--", str(aside)], "/")
        checkout.account.run(["mkdir", "--", str(aside)], "/")
        return CHelper(checkout.path, aside, checkout.account)

    def _helper(self) -> CHelper:
        return CHelper(Path(self.code.path), self._aside(), Account(self.code.user))

    def _aside(self) -> Path:
        return Path(str(self._prepared("directory"))) / ASIDE

    def _prepared(self, name: str) -> object:
        return prepared(self.record.entries()).get(name, "")
