"""What klippy's objects must say before a transaction is believed: sensors, relays, an AMS."""

import time
from typing import Any, Dict, List, Set

from fleetflash.agent import klippy
from fleetflash.agent.record import Record
from fleetflash.agent.schema import ObjectCheck

LOOK_SECONDS = 0.5


class ObjectChecks:
    """For one transaction. What is found is in its journal."""

    def __init__(self, record: Record):
        self.record = record

    def wrong(self, written: Set[str]) -> Dict[str, str]:
        """Ask a klippy that is ready until all checks are met, or ``checks_seconds`` are over.

        Returns, of the boards ``written`` (or the host code), those that must go back: name → what klippy says. A check
        of the printer is one of all of them. Nothing goes back after a rollback, which is a way back itself, nor when a
        print has begun meanwhile.
        """
        transaction = self.record.transaction
        owned = [("", check) for check in transaction.checks]
        owned += [(board.name, check) for board in transaction.boards for check in board.checks]
        if not owned or transaction.backup_only:
            return {}
        self.record.log("checking-objects", seconds=transaction.checks_seconds)
        problems = wait(transaction.socket, [check for _, check in owned], transaction.checks_seconds)
        if not any(problems):
            self.record.log("objects-held")
            return {}
        failed: Dict[str, str] = {}
        for (owner, _), problem in zip(owned, problems):
            for name in sorted(written if not owner else written & {owner}) if problem else []:
                failed[name] = f"{failed[name]}, {problem}" if name in failed else problem
        said = ", ".join(dict.fromkeys(filter(None, problems)))
        kept = self._why_kept() if failed else ""
        self.record.log("objects-failed", error=said + (f" ({kept}, so nothing is taken back)" if kept else ""))
        return {} if kept else failed

    def _why_kept(self) -> str:
        """Say why nothing may be taken back; empty when it may."""
        if self.record.transaction.holds:
            return "this is a rollback"
        try:
            prints = klippy.status(self.record.transaction.socket).prints
        except klippy.KlippyError:
            return ""
        return "a print has begun meanwhile" if prints else ""


def wait(path: str, checks: List[ObjectCheck], seconds: float) -> List[str]:
    """Return, for each check, what is wrong once ``seconds`` are over; empty texts as soon as all are met."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = klippy.query(path, sorted({check.object for check in checks}))
        except klippy.KlippyError as error:
            problems = [f"object {check.object}: {error}" for check in checks]
        else:
            problems = [problem(check, found) for check in checks]
        if not any(problems) or time.monotonic() >= deadline:
            return problems
        time.sleep(LOOK_SECONDS)


def problem(check: ObjectCheck, found: Dict[str, Any]) -> str:
    """Say in one line how klippy's answer differs from a check; empty when it does not."""
    where = f"object {check.object}"
    value: Any = found.get(check.object)
    if not value:
        return f"{where}: klippy knows no such object; correct it in checks, or in printer.cfg"
    for part in check.field.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return f"{where}: it has no field {check.field!r}; correct it in checks"
    if _meets(check, value):
        return ""
    return f"{where}: {check.field} is {value!r:.60}, expected {_expected(check)}"


def _meets(check: ObjectCheck, value: Any) -> bool:
    if check.minimum is None and check.maximum is None:
        # In Python, True is 1; to klippy it is not.
        return bool(isinstance(value, bool) == isinstance(check.equals, bool) and value == check.equals)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (check.minimum is None or value >= check.minimum) and (check.maximum is None or value <= check.maximum)


def _expected(check: ObjectCheck) -> str:
    if check.minimum is not None and check.maximum is not None:
        return f"{check.minimum:g} to {check.maximum:g}"
    if check.minimum is not None:
        return f"{check.minimum:g} at least"
    return repr(check.equals) if check.maximum is None else f"{check.maximum:g} at most"
