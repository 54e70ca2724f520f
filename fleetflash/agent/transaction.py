"""All boards of one Klipper host, written while Klipper is stopped once, with a way back from every step.

The order never changes: check what the plan saw → raise the guard → stop Klipper → per board: bootloader, identity,
journal, erase, program, verify, reset → lower the busy flag and start Klipper → check what really runs → commit. A
failure anywhere restores; a death anywhere leaves the rest to ``settle``, which reads the journal.
"""

import time
from pathlib import Path
from typing import Callable, Dict, List, Set

from fleetflash.agent import devices, guard, klippy, systemd
from fleetflash.agent.board import BoardOnPort, OpenPort, WrongFirmwareError, differences
from fleetflash.agent.events import EventWriter, path_for
from fleetflash.agent.lease import LeaseError, lend_port
from fleetflash.agent.port import PortError
from fleetflash.agent.ports import holders
from fleetflash.agent.protocols.errors import ProtocolError, WrongChipError
from fleetflash.agent.protocols.programmers import Ask, Progress
from fleetflash.agent.schema import BoardTransaction, Image, LedgerEntry, PortFacts, Transaction
from fleetflash.agent.store import Store, StoreError

#: What a board, its port or its disk can do wrong; anything else is a bug and is left to ``settle``.
BOARD_ERRORS = (ProtocolError, PortError, StoreError, LeaseError, WrongFirmwareError, OSError)

COMMITTED, RESTORED, REFUSED, FAILED, NEEDS_ATTENTION = (
    "committed",
    "restored",
    "refused",
    "failed",
    "needs-attention",
)


#: A board that resists its way back is tried again: a power dip or a replugged cable passes.
RESTORE_ATTEMPTS = 4
RESTORE_PAUSE = 2.0


class RefusalError(Exception):
    """The host isn't as the plan saw it; nothing was touched."""


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
        self.results: Dict[str, Dict[str, object]] = {
            board.name: {"result": "untouched", "detail": ""} for board in transaction.boards
        }
        self.uids: Dict[str, str] = {}
        self._settling = False

    # The transaction

    def run(self) -> str:
        """Bring every board to its wanted image, or everything back; return the outcome."""
        self._log("begin")
        try:
            self._check_preconditions()
        except RefusalError as error:
            return self._finish(REFUSED, str(error))
        guard.raise_guard(self.transaction, self.agent)
        self._log("guarded")
        self._stop_service()
        failed = self._write_boards()
        if not failed or (self.transaction.policy == "compatible" and len(failed) < len(self.boards)):
            failed.update(self._start_and_check(set(self.boards) - set(failed)))
        if not failed:
            return self._commit(set(self.boards))
        return self._take_back(failed)

    def settle(self) -> str:
        """Bring the host to rest after a death: finish what was committed, take back what was not."""
        self._settling = True
        outcome = self.store.read_outcome(self.transaction.id)
        if outcome is not None:
            guard.lower_guard(self.transaction)
            return str(outcome.get("outcome", ""))
        entries = self.journal.read()
        steps = {entry["step"] for entry in entries}
        for entry in entries:
            if entry["step"] == "writing":
                self.uids[str(entry["board"])] = str(entry.get("uid", ""))
        if "committed" in steps:
            return self._commit({str(e["board"]) for e in entries if e["step"] == "committed"})
        if "guarded" not in steps:
            guard.lower_guard(self.transaction)
            return self._finish(REFUSED, "interrupted before anything was touched; run again")
        self._log("settling")
        interrupted = dict.fromkeys(_unsettled(entries), "interrupted while it was being written")
        if not interrupted:
            self._leave_bootloaders()
            self._start_service()
            return self._finish(RESTORED, "interrupted before any board was written; Klipper is as it was")
        return self._take_back(interrupted)

    # Before anything is touched

    def _check_preconditions(self) -> None:
        """Raise ``RefusalError`` when the host is not as the plan saw it, or a way back isn't on the disk."""
        transaction = self.transaction
        facts = systemd.show(transaction.service, ["ActiveState", "MainPID"])
        active = facts.get("ActiveState") in systemd.ACTIVE_STATES
        if active != transaction.was_active:
            now, then = ("active", "stopped") if active else ("stopped", "active")
            raise RefusalError(f"{transaction.service} is {now}, but it was {then} when the plan was made; run again")
        ports = devices.list_ports({})
        for board in transaction.boards:
            self._check_board(board, ports, int(facts.get("MainPID") or 0))
        if active:
            self._check_printer()

    def _check_board(self, board: BoardTransaction, ports: List[PortFacts], klippy_pid: int) -> None:
        found = devices.candidates(board.port, ports)
        if found != [board.device]:
            raise RefusalError(
                f"{board.name}: {board.port} now is {' and '.join(found) or 'absent'}, the plan saw {board.device}"
            )
        for pid, command in holders(board.device):
            if pid != klippy_pid:
                raise RefusalError(
                    f"{board.name}: {board.device} is held by process {pid} ({command}); end it, then run again"
                )
        images = [board.wanted] if board.placement == "host" else []
        for image in images + ([board.way_back] if board.way_back else []):
            try:
                self.store.read_image(image.sha256)
            except (StoreError, OSError) as error:
                raise RefusalError(f"{board.name}: {error}; nothing was stopped") from error
        ledger = self.store.ledger(board.name)
        if ledger and ledger.uid and board.uid and ledger.uid != board.uid:
            raise RefusalError(f"{board.name}: the ledger knows unique id {ledger.uid}, the plan says {board.uid}")

    def _check_printer(self) -> None:
        """Ask klippy again just before it is stopped: is it printing, does it still run what the plan saw?"""
        try:
            status = klippy.status(self.transaction.socket)
        except klippy.KlippyError as error:
            if not self.transaction.was_ready:
                return  # the plan knew that klippy doesn't answer and was told to go on
            raise RefusalError(f"klippy no longer answers, so it may be printing: {error}") from error
        if status.print_state in ("printing", "paused") or status.paused:
            raise RefusalError(
                f"a print has begun since the plan was made (state {status.print_state}); run again later"
            )
        for board in self.transaction.boards:
            found = status.mcus.get(board.klippy_mcu or "")
            if found and found.version and board.expected.version and found.version != board.expected.version:
                raise RefusalError(
                    f"{board.name}: runs {found.version}, the plan saw {board.expected.version}; run again"
                )

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
        with board.in_bootloader(self._ask(name)) as session:
            self.uids[name] = session.uid
            self._log("writing", board=name, uid=session.uid, sha256=image.sha256)
            session.unprotect_if_asked(self._ask(name))
            if board.board.placement == "controller":
                lend_port(session, self.transaction.id, image, self.events)
            else:
                session.write(self.store.read_image(image.sha256), self._progress(name))
            self._log("verified", board=name, sha256=image.sha256)
            session.programmer.reset()
        self.results[name]["seconds"] = round(time.monotonic() - started, 2)

    def _start_and_check(self, names: Set[str]) -> Dict[str, str]:
        """Start Klipper as it was and return, of the boards ``names``, those that don't run what was written."""
        self._start_service()
        checked = [
            self.boards[name].board for name in sorted(names) if self._checked_by_klippy(self.boards[name].board)
        ]
        if not checked:
            return {}
        self._log("checking")
        try:
            status = klippy.wait_until_ready(self.transaction.socket, self.transaction.ready_seconds)
        except klippy.KlippyError as error:
            return {board.name: str(error) for board in checked}
        self._log("ready")
        failed = {}
        for board in checked:
            found = status.mcus.get(board.klippy_mcu or "")
            difference = differences(found, board.wanted) if found else f"klippy knows no MCU {board.klippy_mcu!r}"
            if difference:
                failed[board.name] = f"{board.name} on {board.device}: {difference}"
        return failed

    def _checked_by_klippy(self, board: BoardTransaction) -> bool:
        return self.transaction.was_ready and board.klippy_mcu is not None and board.wanted.klipper

    # The way back

    def _take_back(self, failed: Dict[str, str]) -> str:
        """Restore what was written, as the policy says, and let Klipper run again; return the outcome."""
        written = _unsettled(self.journal.read())
        restore = written if self.transaction.policy == "exact" else written & set(failed)
        for name, error in failed.items():
            self.results[name].update(result="failed", detail=error)
        stuck: Set[str] = set()
        if restore:
            self._stop_service()
            stuck = {name for name in sorted(restore) if not self._restore(name, failed.get(name, ""))}
        self._leave_bootloaders()
        self._start_service()
        detail = "; ".join(failed.values())
        if self.transaction.was_ready and not self._settling:
            try:
                klippy.wait_until_ready(self.transaction.socket, self.transaction.ready_seconds)
                self._log("ready")
            except klippy.KlippyError as error:
                detail += f"; after that, {error}"
        good = written - restore
        if good and not stuck:
            self._record(good)
        if stuck:
            return self._finish(NEEDS_ATTENTION, detail)
        return self._finish(RESTORED if restore else FAILED, detail)

    def _leave_bootloaders(self) -> None:
        """A board that was brought into its bootloader and not written must not be left there."""
        entries = self.journal.read()
        entered = {str(entry["board"]) for entry in entries if entry["step"] == "entering"}
        written = {str(entry["board"]) for entry in entries if entry["step"] == "writing"}
        for name in sorted(entered - written):
            self._stop_service()
            try:
                self.boards[name].leave_bootloader()
            except BOARD_ERRORS as error:
                self._log("leave-failed", board=name, error=str(error))

    def _restore(self, name: str, reason: str) -> bool:
        """Write a board's way back and check it; a board without one, or that fails, is latched for a person."""
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
                self._log("restored", board=name)
                self.results[name].update(result=RESTORED, detail=reason or "taken back with its neighbours")
                return True
        detail = f"{problem}. First failure: {reason or 'none'}"
        self.store.write_attention(name, detail)
        self.results[name].update(result=NEEDS_ATTENTION, detail=detail)
        return False

    def _write_way_back(self, board: BoardOnPort) -> None:
        name, way_back = board.board.name, board.board.way_back
        if way_back is None:
            raise StoreError(f"{name}: no way back was recorded for this board")
        with board.in_bootloader(self._ask(name)) as session:
            session.unprotect_if_asked(self._ask(name))
            session.write(self.store.read_image(way_back.sha256), self._progress(name))
            session.programmer.reset()
        board.check_runs(way_back)

    # The service

    def _stop_service(self) -> None:
        guard.hold()
        if systemd.is_active(self.transaction.service):
            self._log("stopping")
            systemd.stop(self.transaction.service)
        self._log("stopped")

    def _start_service(self) -> None:
        guard.release()
        if not self.transaction.was_active:
            return
        self._log("starting")
        # At boot the settle unit is ordered before Klipper: waiting for it here would wait for ourselves.
        systemd.start(self.transaction.service, wait=not self._settling)

    # The end

    def _commit(self, names: Set[str]) -> str:
        for name in sorted(names):
            self._log("committed", board=name)
        self._record(names)
        return self._finish(COMMITTED, "")

    def _record(self, names: Set[str]) -> None:
        """Enter what the boards now run into the host's ledger."""
        for name in sorted(names):
            board = self.boards[name].board
            entry = LedgerEntry(
                artifact=board.wanted.artifact,
                image_sha256=board.wanted.sha256,
                version=board.wanted.version,
                transaction=self.transaction.id,
                chip=board.chip,
                uid=self.uids.get(name, ""),
                committed_at=round(time.time(), 3),
            )
            self.store.write_ledger(name, entry)
            self.store.clear_attention(name)
            self.results[name].update(result="flashed")

    def _finish(self, outcome: str, detail: str) -> str:
        record = {
            "outcome": outcome,
            "detail": detail,
            "downtime": _downtime(self.journal.read()),
            "boards": self.results,
            "ended_at": round(time.time(), 3),
        }
        self.store.write_outcome(self.transaction.id, record)
        guard.lower_guard(self.transaction)
        self._log("end", outcome=outcome)
        return outcome

    # What others see

    def _log(self, step: str, **details: object) -> None:
        self.events.write(self.journal.append(step, **details))

    def _ask(self, name: str) -> Ask:
        def ask(gesture: str, seconds: float) -> None:
            self._log("hands", board=name, gesture=gesture, seconds=seconds)

        return ask

    def _progress(self, name: str) -> Callable[[str], Progress]:
        def phase(phase_name: str) -> Progress:
            return lambda done, total: self.events.progress(name, phase_name, done, total)

        return phase


def _unsettled(entries: List[Dict[str, object]]) -> Set[str]:
    """Return the boards whose flash was touched and not restored since."""
    touched: Set[str] = set()
    for entry in entries:
        if entry["step"] == "writing":
            touched.add(str(entry["board"]))
        elif entry["step"] == "restored":
            touched.discard(str(entry["board"]))
    return touched


def _downtime(entries: List[Dict[str, object]]) -> float:
    """Return for how many seconds the journal says that Klipper was away: from the first stop to the last start.

    Where klippy was asked whether it is ready, it counts as away until it was.
    """
    stops = [float(str(entry["time"])) for entry in entries if entry["step"] == "stopping"]
    starts = [float(str(entry["time"])) for entry in entries if entry["step"] in ("starting", "ready")]
    return round(starts[-1] - stops[0], 2) if stops and starts else 0.0
