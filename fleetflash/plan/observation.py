"""What was seen of a board and is on record of it, as far as it is of the board that is meant."""

import dataclasses

from fleetflash.agent.schema import BoardFacts, Past, Snapshot
from fleetflash.boards import PROGRAMMERS, Board
from fleetflash.plan.model import Action, BoardPlan


def look_at(board: Board, observed: Snapshot) -> tuple[BoardFacts, BoardPlan]:
    """Return what is known of a board, and the beginning of a plan for it."""
    facts = observed.boards[board.name]
    if _is_replaced(board, facts):
        # What is known of the former one says nothing of this.
        facts = dataclasses.replace(facts, ledger=None)
    uid = expected_uid(board, facts, observed)
    place = facts.ledger.by_path if facts.ledger else ""
    return facts, BoardPlan(
        board.name, Action.REFUSE, "", board, device=facts.device, running=facts.firmware, uid=uid, place=place
    )


def expected_uid(board: Board, facts: BoardFacts, observed: Snapshot) -> str:
    """Return the unique id that a board must tell; one that it told in another way once is not asked for."""
    met = facts.ledger.uid if facts.ledger and can_tell_uid(board, facts, observed) else ""
    return board.uid or met


def can_tell_uid(board: Board, facts: BoardFacts, observed: Snapshot) -> bool:
    """Whether the board may tell its unique id where it is: a USB serial number is none of a UART's."""
    able = PROGRAMMERS[board.programmer]
    on_uart = any(port.device == facts.device and not port.usb for port in observed.ports)
    return able.tells_uid and not (able.uid_by_usb and on_uart and not facts.uid)


def lineage_of(board: Board, observed: Snapshot) -> list[Past]:
    """Return what the very board ran, newest first; nothing of a board that it replaces."""
    return [] if _is_replaced(board, observed.boards[board.name]) else observed.lineages.get(board.name, [])


def _is_replaced(board: Board, facts: BoardFacts) -> bool:
    return bool(board.uid and facts.ledger and facts.ledger.uid not in ("", board.uid))
