"""What stands once a transaction is committed: the ledger, what each board ran before, and a rollback's holds."""

from typing import Dict, Optional, Set, Tuple

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.boots import remark
from fleetflash.agent.history import boots
from fleetflash.agent.holds import Holds
from fleetflash.agent.host_code import HostCodeMove
from fleetflash.agent.lineage import Lineages
from fleetflash.agent.record import Record
from fleetflash.agent.schema import HOST_CODE, Image
from fleetflash.agent.way_back import WayBack


class Standing:
    """Enters boards that run what was wanted. Entering them again, as after a death, changes nothing more."""

    def __init__(
        self, record: Record, boards: Dict[str, BoardOnPort], way_back: WayBack, host_code: Optional[HostCodeMove]
    ):
        self.record = record
        self.boards = boards
        self.way_back = way_back
        self.host_code = host_code

    def enter(self, names: Set[str]) -> None:
        """Enter the boards ``names`` into the host's own files; the checkout says itself what it is at."""
        transaction, store = self.record.transaction, self.record.store
        heard = boots(self.record.entries())
        for name in sorted(names):
            if name == HOST_CODE:
                store.clear_attention(name)
            else:
                self.record.enter(self.boards[name].board, self.boards[name].board.wanted)
            former, wanted = self._change(name)
            Lineages(store).enter(name, former, wanted, transaction.id, back=bool(transaction.holds))
            self.record.results[name].update(result="flashed", detail=remark(heard.get(name, [])))
        for name, hold in transaction.holds.items():
            # A board that is no part of the transaction was there before it.
            if name in names or name not in self.record.results:
                Holds(store).put(name, hold)

    def _change(self, name: str) -> Tuple[Optional[Image], Image]:
        """Return what a board ran before, if an image of it is known, and what it runs now; likewise the host code."""
        if name == HOST_CODE:
            assert self.host_code is not None
            code = self.host_code.code
            return Image("", code.former, 0, code.former[:12]), Image("", code.wanted, 0, self.host_code.version)
        board, former = self.boards[name].board, self.way_back.image(name)
        if former is None or not (board.read_back or former.version == board.expected.version):
            return None, board.wanted  # a factory image, say, is a way back and not what the board ran
        return former, board.wanted
