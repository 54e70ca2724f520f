"""What was seen of a board and is on record of it, as far as it is of the board that is meant."""

import dataclasses

from fleetflash.agent.schema import BoardFacts, Past, Snapshot
from fleetflash.boards import Board
from fleetflash.plan.model import Action, BoardPlan


def look_at(board: Board, observed: Snapshot) -> tuple[BoardFacts, BoardPlan]:
    """Return what is known of a board, and the beginning of a plan for it."""
    facts = observed.boards[board.name]
    if _is_replaced(board, facts):
        # What is known of the former one says nothing of this.
        facts = dataclasses.replace(facts, ledger=None)
    uid = board.uid or (facts.ledger.uid if facts.ledger else "")
    place = facts.ledger.by_path if facts.ledger else ""
    return facts, BoardPlan(
        board.name, Action.REFUSE, "", board, device=facts.device, running=facts.firmware, uid=uid, place=place
    )


def lineage_of(board: Board, observed: Snapshot) -> list[Past]:
    """Return what the very board ran, newest first; nothing of a board that it replaces."""
    return [] if _is_replaced(board, observed.boards[board.name]) else observed.lineages.get(board.name, [])


def _is_replaced(board: Board, facts: BoardFacts) -> bool:
    return bool(board.uid and facts.ledger and facts.ledger.uid not in ("", board.uid))
