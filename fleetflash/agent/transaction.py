"""All boards of one Klipper host, written while Klipper is stopped once, with a way back from every step.

The order never changes: check what the plan saw → raise the guard → look once more whether it prints → stop Klipper →
per board: bootloader, identity, backup, journal, erase, program, verify, reset → take back what failed → start Klipper
→ check what really runs → take back what does not → commit. A death anywhere leaves the rest to ``settle``.
"""

import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

from fleetflash.agent import guard, klippy, preconditions, systemd
from fleetflash.agent.backups import Backups
from fleetflash.agent.board import BoardOnPort, OpenPort, Session, WrongFirmwareError, differences
from fleetflash.agent.events import EventWriter, path_for
from fleetflash.agent.history import (
    backed_up,
    downtime,
    failures,
    restored_boards,
    troubles,
    uids,
    unsettled,
    verified_boards,
)
from fleetflash.agent.lease import LeaseError, lend_port
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.errors import ProtocolError, WrongChipError
from fleetflash.agent.protocols.programmer import Ask, Progress
from fleetflash.agent.schema import BoardTransaction, Image, LedgerEntry, Transaction, to_json
from fleetflash.agent.service import KlipperService
from fleetflash.agent.store import Store, StoreError

#: What a board, its port or its disk can do wrong; anything else is a bug and is left to ``settle``.
BOARD_ERRORS = (ProtocolError, PortError, StoreError, LeaseError, WrongFirmwareError, OSError)

COMMITTED, RESTORED, REFUSED, FAILED, NEEDS_ATTENTION = "committed", "restored", "refused", "failed", "needs-attention"

#: A board that resists its way back is tried again: a power dip or a replugged cable passes.
RESTORE_ATTEMPTS = 4
RESTORE_PAUSE = 2.0
#: What the ledger says of a board from its first erased byte until its next commit or restore.
UNFINISHED = "unfinished"
#: Without these in the journal nothing may go on; of all others the work is worth more than the record.
ESSENTIAL_STEPS = ("begin", "guarded", "backed-up", "writing", "committed")


class Runner:
    """Runs one transaction, or settles one that died. ``open_port`` and the store are replaced in tests."""

    def __init__(self, transaction: Transaction, store: Store, agent: Path, open_port: OpenPort):
        self.transaction = transaction
        self.store = store
        self.agent = agent
        self.journal = store.journal(transaction.id)
        self.events = EventWriter(path_for(transaction.id))
        self.boards: Dict[str, BoardOnPort] = {
            board.name: BoardOnPort(board, open_port) for board in transaction.boards
        }
        self.results: Dict[str, Dict[str, Any]] = {
            board.name: {"result": "untouched", "detail": ""} for board in transaction.boards
        }
        self.klipper = KlipperService(transaction, self._log)
        self._settling = False

    # The transaction

    def run(self) -> str:
        """Bring every board to its wanted image, or back; return the outcome."""
        self._log("begin")
        guard.forget_stopped()
        try:
            preconditions.check_host(self.transaction, self.store)
            preconditions.check_printer(self.transaction)
            self.store.reserve.take()
            guard.raise_guard(self.transaction, self.agent)
            self._log("guarded")
            preconditions.check_printer(self.transaction)
        except (preconditions.RefusalError, systemd.SystemdError, OSError) as error:
            return self._finish(REFUSED, str(error))
        try:
            return self._carry_out()
        except systemd.SystemdError as error:
            self._log("given-up", error=str(error))  # for ``settle``, which comes next
            raise

    def _carry_out(self) -> str:
        self.klipper.stop()
        failed = self._write_boards()
        stuck = self._restore_failed(failed)
        wrong = self._start_and_check(unsettled(self.journal.read()) - set(failed), alone=not failed)
        if wrong:
            failed.update(wrong)
            for name, error in wrong.items():
                self._log("failed", board=name, error=error)
            stuck |= self._restore_failed(wrong)
            self._start_and_check(set(), alone=False)
        return self._conclude(failed, stuck)

    def settle(self) -> str:
        """Bring the host to rest after a death: finish what was committed, take back what was not.

        Returns the outcome; empty when a print runs by now, which nothing may stop.
        """
        self._settling = True
        self.klipper.waits_for_start = False
        outcome = self.store.read_outcome(self.transaction.id)
        if outcome is not None:
            guard.lower_guard(self.transaction)
            return str(outcome.get("outcome", ""))
        entries = self.journal.read()
        committed = [entry for entry in entries if entry["step"] == "committed"]
        if committed:
            return self._commit(set(committed[-1]["boards"]))
        if not any(entry["step"] == "guarded" for entry in entries):
            return self._finish(REFUSED, "interrupted before anything was touched; run again")
        for name, error in failures(entries).items():
            self.results[name].update(result=FAILED, detail=error)
        for name in restored_boards(entries):
            reason = self.results[name]["detail"] or "interrupted while it was being written"
            self.results[name].update(result=RESTORED, detail=reason)
        status = self.klipper.status()
        if status is not None and status.prints:
            return ""
        interrupted = unsettled(entries)
        whole = self.transaction.policy == "compatible" or interrupted == set(self.boards)
        if whole and interrupted and status and self._all_run_what_was_verified(interrupted, status, entries):
            return self._commit(interrupted)
        self._log("settling")
        why = failures(entries)
        failed = {name: why.get(name, "interrupted while it was being written") for name in interrupted}
        stuck = self._restore_failed(failed)
        self._leave_bootloaders()
        self.klipper.start()
        if not failed and not restored_boards(entries):
            given_up = [str(entry["error"]) for entry in entries if entry["step"] == "given-up"]
            return self._finish(FAILED, "; ".join([*given_up, "interrupted before any board was written; run again"]))
        return self._conclude(failed or {"": "interrupted"}, stuck)

    # Writing

    def _write_boards(self) -> Dict[str, str]:
        """Write every board; return name → what went wrong. With policy ``exact`` the first failure ends it."""
        failed: Dict[str, str] = {}
        for name, board in self.boards.items():
            try:
                self._write(board, board.board.wanted)
                if not self._checked_by_klippy(board.board):
                    board.check_runs(board.board.wanted)
            except BOARD_ERRORS as error:
                failed[name] = str(error)
                self._log("failed", board=name, error=str(error))
                if self.transaction.policy == "exact":
                    break
        return failed

    def _write(self, board: BoardOnPort, image: Image) -> None:
        name = board.board.name
        started = time.monotonic()
        self._log("entering", board=name)
        with board.in_bootloader(self._ask(name), board.board.uid) as session:
            if board.board.read_back:
                self._back_up(session)
            self._log("writing", board=name, uid=session.uid, sha256=image.sha256)
            self._record(board.board, None, session.uid or board.board.uid)
            session.unprotect_if_asked(self._ask(name))
            if board.board.placement == "controller":
                lend_port(session, self.transaction.id, image, self.events)
            else:
                session.write(self.store.read_image(image.sha256), self._progress(name))
            self._log("verified", board=name, sha256=image.sha256)
            session.programmer.reset()
        self.results[name]["seconds"] = round(time.monotonic() - started, 2)

    def _back_up(self, session: Session) -> None:
        """Read what the board runs: nothing else could bring it back.

        What an interrupted write has left is never read for a backup; the one that was read before it is taken.
        """
        board, backups = session.board, Backups(self.store)
        ledger = self.store.ledger(board.name)
        if ledger is not None and ledger.image_sha256 == UNFINISHED:
            found = backups.before_unfinished(board, session.uid)
        else:
            self._log("reading", board=board.name)
            data = session.read(self._progress(board.name))
            found = backups.add(board, data, board.expected, session.uid, self.transaction.id)
        self._log("backed-up", board=board.name, image=to_json(found))

    def _start_and_check(self, names: Set[str], alone: bool) -> Dict[str, str]:
        """Start Klipper as it was; return, of the boards ``names``, those that don't run what was written.

        ``alone``: no other board of the host has failed, which could keep klippy from being ready.
        """
        problem = self.klipper.start()
        if not self.transaction.was_ready:
            return {}
        if not names and any(result["result"] == NEEDS_ATTENTION for result in self.results.values()):
            return {}  # a board that is stuck keeps klippy from being ready; nobody needs to wait for that
        self._log("checking")
        boards = [self.boards[name].board for name in sorted(names) if self._checked_by_klippy(self.boards[name].board)]
        try:
            if problem:
                raise klippy.KlippyError(problem)
            status = klippy.wait_until_ready(self.transaction.socket, self.transaction.ready_seconds)
        except klippy.KlippyError as error:
            self._log("not-ready", error=str(error))
            if not boards or (alone and len(boards) == 1):
                return {board.name: str(error) for board in boards}
            # Whose fault is it? The boards are asked themselves.
            self.klipper.stop()
            failed = self._ask_boards({board.name for board in boards})
            if alone and not failed:
                return {board.name: str(error) for board in boards}
            if not failed:
                self.klipper.start()
            return failed
        self._log("ready")
        failed = {}
        for board in boards:
            found = status.mcus.get(board.klippy_mcu or "")
            difference = differences(found, board.wanted) if found else f"klippy knows no MCU {board.klippy_mcu!r}"
            if difference:
                failed[board.name] = f"{board.name} on {board.port}: {difference}"
        return failed

    def _ask_boards(self, names: Set[str]) -> Dict[str, str]:
        """Ask boards on their ports what they run; return name → what is wrong. Klipper must be stopped."""
        failed = {}
        for name in sorted(names):
            try:
                self.boards[name].check_runs(self.boards[name].board.wanted)
            except BOARD_ERRORS as error:
                failed[name] = str(error)
        return failed

    def _checked_by_klippy(self, board: BoardTransaction) -> bool:
        return self.transaction.was_ready and board.klippy_mcu is not None and board.wanted.klipper

    # The way back

    def _restore_failed(self, failed: Dict[str, str]) -> Set[str]:
        """Take back what was written of ``failed``, and with policy ``exact`` everything; return what resisted."""
        if not failed:
            return set()
        for name, error in failed.items():
            self.results[name].update(result=FAILED, detail=error)
        written = unsettled(self.journal.read())
        restore = written if self.transaction.policy == "exact" else written & set(failed)
        if restore:
            self.klipper.stop()
        stuck = {name for name in sorted(restore) if not self._restore(name, failed.get(name, ""))}
        self._leave_bootloaders()
        return stuck

    def _restore(self, name: str, reason: str) -> bool:
        """Write a board's way back and check it; a board without one, or that fails, is latched for a person."""
        problem = ""
        for attempt in range(1, RESTORE_ATTEMPTS + 1):
            self._log("restoring", board=name, attempt=attempt)
            try:
                self._write_way_back(self.boards[name])
            except BOARD_ERRORS as error:
                problem = str(error)
                self._log("restore-failed", board=name, error=problem)
                if isinstance(error, (WrongChipError, StoreError)):
                    break  # nothing of this changes by itself
                time.sleep(RESTORE_PAUSE)
            else:
                self._record(self.boards[name].board, self._way_back(name), self._uid(name))
                self._log("restored", board=name)
                self.results[name].update(result=RESTORED, detail=reason or "taken back with its neighbours")
                return True
        detail = f"{problem}. First failure: {reason or 'none'}"
        self.store.write_attention(name, detail)
        self.results[name].update(result=NEEDS_ATTENTION, detail=detail)
        return False

    def _write_way_back(self, board: BoardOnPort) -> None:
        name = board.board.name
        way_back = self._way_back(name)
        if way_back is None:
            raise StoreError(f"{name}: no way back was recorded for this board")
        # The very board that was half written, not whichever has its port now.
        with board.in_bootloader(self._ask(name), self._uid(name)) as session:
            session.unprotect_if_asked(self._ask(name))
            session.write(self.store.read_image(way_back.sha256), self._progress(name))
            session.programmer.reset()
        board.check_runs(way_back)

    def _way_back(self, name: str) -> Optional[Image]:
        """The image that the plan named, or the one that was read before the board was erased."""
        return self.boards[name].board.way_back or backed_up(self.journal.read()).get(name)

    def _leave_bootloaders(self) -> None:
        """A board that was brought into its bootloader and not written must not be left there."""
        entries = self.journal.read()
        entered = {str(entry["board"]) for entry in entries if entry["step"] == "entering"}
        written = {str(entry["board"]) for entry in entries if entry["step"] == "writing"}
        for name in sorted(entered - written):
            self.klipper.stop()
            try:
                self.boards[name].leave_bootloader()
            except BOARD_ERRORS as error:
                self._log("leave-failed", board=name, error=str(error))

    def _uid(self, name: str) -> str:
        return self.boards[name].board.uid or uids(self.journal.read()).get(name, "")

    def _all_run_what_was_verified(self, names: Set[str], status: klippy.Status, entries: List[Dict[str, Any]]) -> bool:
        """Whether klippy is ready with the new firmware on every board of ``names``, each verified before the death."""
        if status.state != "ready" or not names <= verified_boards(entries):
            return False
        for name in names:
            board = self.boards[name].board
            found = status.mcus.get(board.klippy_mcu or "")
            if found is None or differences(found, board.wanted):
                return False
        return True

    # The end

    def _conclude(self, failed: Dict[str, str], stuck: Set[str]) -> str:
        """Commit what stands, and say how it ended."""
        standing = unsettled(self.journal.read()) - stuck - set(failed)
        if not failed:
            return self._commit(standing)
        if standing:
            self._enter(standing)
        detail = "; ".join(dict.fromkeys(failed.values()))
        if stuck:
            return self._finish(NEEDS_ATTENTION, detail)
        restored = any(result["result"] == RESTORED for result in self.results.values())
        return self._finish(RESTORED if restored else FAILED, detail)

    def _commit(self, names: Set[str]) -> str:
        self._log("committed", boards=sorted(names))
        self._enter(names)
        left = [result for name, result in self.results.items() if name not in names]
        word = RESTORED if any(result["result"] == RESTORED for result in left) else FAILED if left else COMMITTED
        return self._finish(word, "; ".join(str(result["detail"]) for result in left))

    def _enter(self, names: Set[str]) -> None:
        """Enter boards that run what was wanted into the host's ledger."""
        for name in sorted(names):
            self._record(self.boards[name].board, self.boards[name].board.wanted, self._uid(name))
            self.store.clear_attention(name)
            self.results[name].update(result="flashed", detail="")

    def _record(self, board: BoardTransaction, image: Optional[Image], uid: str) -> None:
        """Write a board's ledger entry; without an image it says unfinished, and names the way back."""
        known_good = image or self._way_back(board.name)
        entry = LedgerEntry(
            artifact=known_good.artifact if known_good else "",
            image_sha256=image.sha256 if image else UNFINISHED,
            version=image.version if image else "",
            transaction=self.transaction.id,
            chip=board.chip,
            uid=uid,
            committed_at=round(time.time(), 3),
        )
        self.store.write_ledger(board.name, entry)

    def _finish(self, outcome: str, detail: str) -> str:
        entries = self.journal.read()
        record = {
            "outcome": outcome,
            "detail": "; ".join(filter(None, [detail, *troubles(entries)])),
            "downtime": downtime(entries),
            "boards": self.results,
            "ended_at": round(time.time(), 3),
        }
        self.store.write_outcome(self.transaction.id, record)
        self.store.reserve.release()
        guard.lower_guard(self.transaction)
        self._log("end", outcome=outcome)
        self.store.prune()
        return outcome

    # What others see

    def _log(self, step: str, **details: Any) -> None:
        try:
            entry = self.journal.append(step, **details)
        except OSError as error:
            if step in ESSENTIAL_STEPS and not self._settling:
                raise
            print(f"journal: {step} {details}: {error}", file=sys.stderr)
            entry = {"step": step, **details}
        self.events.write(entry)

    def _ask(self, name: str) -> Ask:
        def ask(gesture: str, seconds: float) -> None:
            self._log("hands", board=name, gesture=gesture, seconds=seconds)

        return ask

    def _progress(self, name: str) -> Callable[[str], Progress]:
        def phase(phase_name: str) -> Progress:
            return lambda done, total: self.events.progress(name, phase_name, done, total)

        return phase
