"""The way back: boards that must not stay as they were written get their former firmware, or a person is called."""

import time
from typing import Callable, Dict, Optional, Set

from fleetflash.agent import patience
from fleetflash.agent.board import BoardOnPort, WrongFirmwareError
from fleetflash.agent.boots import hardware
from fleetflash.agent.history import attempts, backed_up, boots, resisting, unsettled
from fleetflash.agent.host_code import HOST_CODE_ERRORS, HostCodeMove
from fleetflash.agent.lease import LeaseError, OutOfReachError
from fleetflash.agent.port import PortError
from fleetflash.agent.power_cycle import PowerCycle
from fleetflash.agent.protocols.errors import ProtocolError, WrongChipError
from fleetflash.agent.record import FAILED, NEEDS_ATTENTION, RESTORED, Record
from fleetflash.agent.schema import HOST_CODE, Image
from fleetflash.agent.store import StoreError

#: What a board, its port or its disk can do wrong; anything else is a bug and is left to ``settle``.
BOARD_ERRORS = (ProtocolError, PortError, StoreError, LeaseError, WrongFirmwareError, OSError)


class WayBack:
    """``stop_klipper`` is called before a board is touched: klippy may have been started meanwhile."""

    def __init__(
        self,
        record: Record,
        boards: Dict[str, BoardOnPort],
        stop_klipper: Callable[[], None],
        host_code: Optional[HostCodeMove],
        power: PowerCycle,
    ):
        self.record = record
        self.boards = boards
        self.power = power
        self.stop_klipper = stop_klipper
        self.host_code = host_code

    def image(self, name: str) -> Optional[Image]:
        """Return the image that the plan named, or the one that was read before the board was erased."""
        return self.boards[name].board.way_back or backed_up(self.record.entries()).get(name)

    def take_back(self, failed: Dict[str, str]) -> Set[str]:
        """Take back what was written of ``failed``, and with policy ``exact`` everything; return what resisted.

        ``failed``: board name → what went wrong with it. A board that has resisted before its transaction died comes
        after all others and is tried once more: it must not cost them the time that a settling has.
        """
        if not failed:
            return set()
        for name, error in failed.items():
            self.record.results[name].update(result=FAILED, detail=error)
        entries = self.record.entries()
        written, resisted = unsettled(entries), resisting(entries)
        # A settling that its unit has ended in the middle of an attempt would begin all of them again, without end.
        resisted |= {name for name, count in attempts(entries).items() if count >= patience.RESTORE_ATTEMPTS}
        restore = written if self.record.transaction.policy == "exact" else written & set(failed)
        if restore:
            self.stop_klipper()
        stuck = set()
        if HOST_CODE in restore and not self._restore_host_code(failed.get(HOST_CODE, "")):
            stuck.add(HOST_CODE)
        for name in sorted(restore - {HOST_CODE}, key=lambda name: (name in resisted, name)):
            most = 1 if name in resisted else patience.RESTORE_ATTEMPTS
            if not self._restore(name, failed.get(name, ""), most):
                stuck.add(name)
        self.leave_bootloaders()
        return stuck

    def leave_bootloaders(self) -> None:
        """A board that was brought into its bootloader and not written must not be left there."""
        entries = self.record.entries()
        entered = {str(entry["board"]) for entry in entries if entry["step"] == "entering"}
        over = {str(entry["board"]) for entry in entries if entry["step"] in ("writing", "left")}
        for name in sorted(entered - over):
            self.stop_klipper()
            self.leave_bootloader(name)

    def leave_bootloader(self, name: str) -> None:
        """Have one board start its application, if it does not, as power does; Klipper must be stopped."""
        try:
            self.boards[name].leave_bootloader()
        except BOARD_ERRORS as error:
            if not self.power.helps(name, error):
                self.record.log("leave-failed", board=name, error=str(error))

    def _restore_host_code(self, reason: str) -> bool:
        """Bring the former code back; false when it resists, which is latched for a person."""
        assert self.host_code is not None
        self.record.log("restoring", board=HOST_CODE, attempt=1)
        try:
            self.host_code.take_back()
        except HOST_CODE_ERRORS as error:
            self.record.log("restore-failed", board=HOST_CODE, error=str(error))
            self._latch(HOST_CODE, str(error), reason)
            return False
        self.record.store.clear_attention(HOST_CODE)
        self.record.log("restored", board=HOST_CODE)
        self.record.results[HOST_CODE].update(result=RESTORED, detail=reason or "taken back with its boards")
        return True

    def _restore(self, name: str, reason: str, most: int) -> bool:
        """Write a board's way back and check it; a board without one, or that fails, is latched for a person.

        False for those that are latched. A board that only a controller can write is left to the next run.
        """
        problem = ""
        for attempt in range(1, most + 1):
            self.record.log("restoring", board=name, attempt=attempt)
            try:
                image = self._write(name)
            except OutOfReachError as error:
                # Nothing is wrong with the board, and the next run's controller reaches it again.
                self.record.log("out-of-reach", board=name, error=str(error))
                self.record.results[name].update(result=FAILED, detail=str(error))
                return True
            except BOARD_ERRORS as error:
                problem = str(error)
                self.record.log("restore-failed", board=name, error=problem)
                if isinstance(error, (WrongChipError, StoreError)):
                    break  # nothing of this changes by itself
                if attempt == most or not self.power.helps(name, error):
                    time.sleep(patience.RESTORE_PAUSE)
            else:
                self.record.enter(self.boards[name].board, image)
                self.record.log("restored", board=name)
                heard = boots(self.record.entries()).get(name, [])
                said = filter(None, [reason or "taken back with its neighbours", hardware(heard)])
                self.record.results[name].update(result=RESTORED, detail="; ".join(said))
                return True
        self._latch(name, problem, reason)
        return False

    def _latch(self, name: str, problem: str, reason: str) -> None:
        detail = self.power.told(name, f"{problem}. First failure: {reason or 'none'}")
        self.record.log("resisting", board=name)
        self.record.store.write_attention(name, detail)
        self.record.results[name].update(result=NEEDS_ATTENTION, detail=detail)

    def _write(self, name: str) -> Image:
        image = self.image(name)
        if image is None:
            raise StoreError(f"{name}: no way back was recorded for this board")
        board, ask = self.boards[name], self.record.ask(name)
        # The very board that was half written, not whichever has its port now.
        with board.in_bootloader(ask, self.record.uid(board.board)) as session:
            session.unprotect_if_asked(ask)
            session.write(self.record.store.read_image(image.sha256), self.record.progress(name))
            session.programmer.reset()
        self.power.retry(name, lambda: board.check_runs(image))
        return image
