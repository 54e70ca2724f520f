"""All boards of one Klipper host, written while Klipper is stopped once, with a way back from every step.

The order never changes: check what the plan saw → prepare the host code, if it moves → raise the guard → look once
more whether it prints → stop Klipper → run the boards' backup commands → move the host code → per board: bootloader,
identity, backup, journal, erase, program, verify, reset → take back what failed → start Klipper → check what really
runs → take back what does not → commit. A death anywhere leaves the rest to ``settle``.
"""

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

from fleetflash.agent import guard, klippy, preconditions, systemd
from fleetflash.agent.backups import Backups
from fleetflash.agent.board import BoardOnPort, OpenPort, differences
from fleetflash.agent.boots import Boots
from fleetflash.agent.history import (
    boots,
    downtime,
    failures,
    objects_failed,
    restored_boards,
    troubles,
    unsettled,
    verified_boards,
)
from fleetflash.agent.host_code import HOST_CODE_ERRORS, HostCodeMove
from fleetflash.agent.lease import lend_port
from fleetflash.agent.lent_tool import LentTool
from fleetflash.agent.object_checks import ObjectChecks
from fleetflash.agent.own_word import OwnWord
from fleetflash.agent.port import Port
from fleetflash.agent.power_cycle import NOT_BACK, PowerCycle
from fleetflash.agent.precautions import Precautions
from fleetflash.agent.record import COMMITTED, FAILED, NEEDS_ATTENTION, REFUSED, RESTORED, Record
from fleetflash.agent.schema import HOST_CODE, BoardTransaction, Image, Transaction
from fleetflash.agent.service import KlipperService
from fleetflash.agent.standing import Standing
from fleetflash.agent.store import Store
from fleetflash.agent.tools.process import Tool
from fleetflash.agent.way_back import BOARD_ERRORS, WayBack


class Runner:
    """Runs one transaction, or settles one that died. ``open_port`` and the store are replaced in tests."""

    def __init__(self, transaction: Transaction, store: Store, agent: Path, open_port: OpenPort):
        self.transaction = transaction
        self.store = store
        self.agent = agent
        self.record = Record(transaction, store)
        self.boards: Dict[str, BoardOnPort] = {
            board.name: BoardOnPort(board, open_port, self._lender(board), Boots(self.record, board.name).keep)
            for board in transaction.boards
        }
        self.precautions = Precautions(self.record)
        self.klipper = KlipperService(transaction, self.record.log)
        code = transaction.host_code
        self.host_code = None if code is None else HostCodeMove(code, self.record, store)
        self.power = PowerCycle(self.record, self.boards)
        self.own_word = OwnWord(self.boards, self.power, self.klipper.stop)
        self.objects = ObjectChecks(self.record)
        self.way_back = WayBack(self.record, self.boards, self.klipper.stop, self.host_code, self.power)
        self.standing = Standing(self.record, self.boards, self.way_back, self.host_code)

    def _lender(self, board: BoardTransaction) -> Optional[Callable[[Port], Tool]]:
        if not board.lends_tool:
            return None
        return lambda port: LentTool(port, board.name, self.transaction.id, self.record.events)

    # The transaction

    def run(self) -> str:
        """Bring every board to its wanted image, or back; return the outcome."""
        self.record.log("begin")
        guard.forget_stopped()
        try:
            preconditions.check_host(self.transaction, self.store)
            preconditions.check_printer(self.transaction)
            if self.host_code is not None:
                self.host_code.prepare()
            self.store.reserve.take()
            guard.raise_guard(self.transaction, self.agent)
            self.record.log("guarded")
            preconditions.check_printer(self.transaction)
        except (preconditions.RefusalError, systemd.SystemdError, *HOST_CODE_ERRORS) as error:
            return self._finish(REFUSED, str(error))
        try:
            return self._carry_out()
        except systemd.SystemdError as error:
            self.record.log("given-up", error=str(error))  # for ``settle``, which comes next
            raise

    def _carry_out(self) -> str:
        self.klipper.stop()
        failed = self.precautions.run_commands()
        if not failed or self.transaction.policy == "compatible":
            failed = self._move_host_code() or self._write_boards(failed)
        stuck = self.way_back.take_back(failed)
        wrong = self._start_and_check(unsettled(self.record.entries()) - set(failed), alone=not failed)
        if wrong:
            wrong = {name: self.power.told(name, error) for name, error in wrong.items()}
            failed.update(wrong)
            for name, error in wrong.items():
                self.record.log("failed", board=name, error=error)
            stuck |= self.way_back.take_back(wrong)
            self._start_and_check(set(), alone=False)
        return self._conclude(failed, stuck)

    def settle(self) -> str:
        """Bring the host to rest after a death: finish what was committed, take back what was not.

        Returns the outcome; empty when a print runs by now, which nothing may stop.
        """
        self.record.settling = True
        self.klipper.waits_for_start = False
        outcome = self.store.read_outcome(self.transaction.id)
        if outcome is not None:
            guard.lower_guard(self.transaction)
            return str(outcome.get("outcome", ""))
        entries = self.record.entries()
        committed = [entry for entry in entries if entry["step"] == "committed"]
        if committed:
            return self._commit(set(committed[-1]["boards"]))
        if not any(entry["step"] == "guarded" for entry in entries):
            return self._finish(REFUSED, "interrupted before anything was touched; run again")
        for name, error in failures(entries).items():
            self.record.results[name].update(result=FAILED, detail=error)
        for name in restored_boards(entries):
            reason = self.record.results[name]["detail"] or "interrupted while it was being written"
            self.record.results[name].update(result=RESTORED, detail=reason)
        status = self.klipper.status()
        if status is not None and status.prints:
            return ""
        interrupted = unsettled(entries)
        wrong: Dict[str, str] = {}
        whole = self.transaction.policy == "compatible" or interrupted == set(self.record.results)
        if whole and interrupted and status and self._all_run_what_was_verified(interrupted, status, entries):
            wrong = self.objects.wrong(interrupted)
            if not wrong:
                return self._commit(interrupted)
        self.record.log("settling")
        self.power.switch_on()
        why = {**failures(entries), **wrong}
        failed = {name: why.get(name, "interrupted while it was being written") for name in interrupted}
        stuck = self.way_back.take_back(failed)
        self.way_back.leave_bootloaders()
        self.klipper.start()
        if not failed and not restored_boards(entries):
            given_up = [str(entry["error"]) for entry in entries if entry["step"] == "given-up"]
            return self._finish(FAILED, "; ".join([*given_up, "interrupted before any board was written; run again"]))
        return self._conclude(failed or {"": "interrupted"}, stuck)

    # Writing

    def _move_host_code(self) -> Dict[str, str]:
        """Move the host code, if it is to; return what went wrong as ``_write_boards`` does."""
        if self.host_code is None:
            return {}
        try:
            self.host_code.move()
        except HOST_CODE_ERRORS as error:
            self.record.log("failed", board=HOST_CODE, error=str(error))
            return {HOST_CODE: str(error)}
        return {}

    def _write_boards(self, refused: Dict[str, str]) -> Dict[str, str]:
        """Write every board but those that are ``refused``; return those and all others with what went wrong.

        With policy ``exact`` the first failure ends it.
        """
        failed = dict(refused)
        for name, board in self.boards.items():
            if name in refused:
                continue
            try:
                self._write_untouched(board)
                if not self._checked_by_klippy(board.board):
                    self.own_word.check(board)
            except BOARD_ERRORS as error:
                failed[name] = self.power.told(name, str(error))
                self.record.log("failed", board=name, error=failed[name])
                if self.transaction.policy == "exact":
                    break
        return failed

    def _write_untouched(self, board: BoardOnPort) -> None:
        """Write a board; once more, if a power cycle helps one that did not answer before anything was erased."""
        name, wanted = board.board.name, board.board.wanted
        try:
            self._write(board, wanted)
        except NOT_BACK as error:
            if name in unsettled(self.record.entries()) or not self.power.helps(name, error, forward=True):
                raise
            self._write(board, wanted)

    def _write(self, board: BoardOnPort, image: Image) -> None:
        name = board.board.name
        started = time.monotonic()
        self.record.log("entering", board=name)
        with board.in_bootloader(self.record.ask(name), board.board.uid) as session:
            self.record.enrol(board.board, session.uid)
            self.precautions.keep_way_back(session)
            erase = board.board.erase
            self.record.log("writing", board=name, uid=session.uid, sha256=image.sha256, erase=[r.name for r in erase])
            self.record.enter_unfinished(board.board, self.way_back.image(name), session.uid)
            session.unprotect_if_asked(self.record.ask(name))
            if not board.board.host_writes:
                lend_port(session, self.transaction.id, image, self.record.events)
            else:
                session.write(self.store.read_image(image.sha256), self.record.progress(name), erase)
            self.record.log("verified", board=name, uid=session.uid, sha256=image.sha256)
            session.programmer.reset()
        self.record.results[name]["seconds"] = round(time.monotonic() - started, 2)

    def _start_and_check(self, names: Set[str], alone: bool) -> Dict[str, str]:
        """Start Klipper as it was; return, of the boards ``names``, those that don't run what was written.

        ``alone``: no other board of the host has failed, which could keep klippy from being ready.
        """
        problem = self.klipper.start()
        if not self.transaction.was_ready:
            return self._check_host_code() if HOST_CODE in names and self.transaction.was_active else {}
        if not names and any(result["result"] == NEEDS_ATTENTION for result in self.record.results.values()):
            return {}  # a board that is stuck keeps klippy from being ready; nobody needs to wait for that
        self.record.log("checking")
        written = [self.boards[name].board for name in sorted(names - {HOST_CODE})]
        boards = [board for board in written if self._checked_by_klippy(board)]
        try:
            if problem:
                raise klippy.KlippyError(problem)
            status = klippy.wait_until_ready(self.transaction.socket, self.transaction.ready_seconds)
        except klippy.KlippyError as error:
            self.record.log("not-ready", error=str(error))
            if self.own_word.revive(boards):
                return self._start_and_check(names, alone)
            if HOST_CODE in names:
                return {HOST_CODE: str(error)}  # whoever's fault it is: all goes back together
            if not boards or (alone and len(boards) == 1):
                return {board.name: str(error) for board in boards}
            # Whose fault is it? The boards are asked themselves.
            self.klipper.stop()
            failed = self.own_word.wrong({board.name for board in boards})
            if alone and not failed:
                return {board.name: str(error) for board in boards}
            if not failed:
                self.klipper.start()
            return failed
        self.record.log("ready")
        failed = {}
        if self.host_code is not None and HOST_CODE in names and self.host_code.difference(status.version):
            failed[HOST_CODE] = self.host_code.difference(status.version)
        for board in boards:
            found = status.mcus.get(board.klippy_mcu or "")
            difference = differences(found, board.wanted) if found else f"klippy knows no MCU {board.klippy_mcu!r}"
            if difference:
                failed[board.name] = f"{board.name} on {board.port}: {difference}"
        return failed or self.objects.wrong(names)

    def _check_host_code(self) -> Dict[str, str]:
        """Ask a klippy that was not ready before, and need not be now, at least which version it is."""
        assert self.host_code is not None
        try:
            status = klippy.wait_until_answers(self.transaction.socket, self.transaction.ready_seconds)
        except klippy.KlippyError as error:
            return {HOST_CODE: str(error)}
        difference = self.host_code.difference(status.version)
        return {HOST_CODE: difference} if difference else {}

    def _checked_by_klippy(self, board: BoardTransaction) -> bool:
        return self.transaction.was_ready and board.klippy_mcu is not None and board.wanted.klipper

    def _all_run_what_was_verified(self, names: Set[str], status: klippy.Status, entries: List[Dict[str, Any]]) -> bool:
        """Whether klippy is ready with what is new on every board of ``names``, each verified before the death."""
        if status.state != "ready" or not names <= verified_boards(entries):
            return False
        if self.host_code is not None and HOST_CODE in names and self.host_code.difference(status.version):
            return False
        for name in names - {HOST_CODE}:
            board = self.boards[name].board
            found = status.mcus.get(board.klippy_mcu or "")
            if found is None or differences(found, board.wanted):
                return False
        return True

    # The end

    def _conclude(self, failed: Dict[str, str], stuck: Set[str]) -> str:
        """Commit what stands, and say how it ended."""
        standing = unsettled(self.record.entries()) - stuck - set(failed)
        # What was to go back and could not be reached holds neither image for certain.
        standing -= {name for name, result in self.record.results.items() if result["result"] == FAILED}
        if not failed:
            return self._commit(standing)
        if standing:
            self.standing.enter(standing)
        detail = "; ".join(dict.fromkeys(failed.values()))
        if stuck:
            return self._finish(NEEDS_ATTENTION, detail)
        restored = any(result["result"] == RESTORED for result in self.record.results.values())
        return self._finish(RESTORED if restored else FAILED, detail)

    def _commit(self, names: Set[str]) -> str:
        self.record.log("committed", boards=sorted(names))
        self.standing.enter(names)
        left = [result for name, result in self.record.results.items() if name not in names]
        restored = any(result["result"] == RESTORED for result in left)
        # What stands after a rollback stands, but whoever asked for it must look after it.
        word = RESTORED if restored else FAILED if left or objects_failed(self.record.entries()) else COMMITTED
        return self._finish(word, "; ".join(str(result["detail"]) for result in left))

    def _finish(self, outcome: str, detail: str) -> str:
        entries = self.record.entries()
        for name, heard in boots(entries).items():
            self.record.results[name]["boots"] = heard
        record = {
            "outcome": outcome,
            "detail": "; ".join(filter(None, [detail, *troubles(entries)])),
            "downtime": downtime(entries),
            "boards": self.record.results,
            "ended_at": round(time.time(), 3),
        }
        self.store.write_outcome(self.transaction.id, record)
        self.store.reserve.release()
        guard.lower_guard(self.transaction)
        self.record.log("end", outcome=outcome)
        if self.host_code is not None:
            self.host_code.finish()
        now = self.transaction.started_at or time.time()
        Backups(self.store).retain(list(self.boards), self.transaction.retention, now)
        self.store.prune()
        return outcome
