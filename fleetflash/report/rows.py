"""Plans and outcomes as rows of a table."""

import dataclasses
from typing import Any

from fleetflash.plan import Action, BoardPlan, HostPlan
from fleetflash.report.table import Row

#: How a board of a plan that needed no transaction appears when the run is over.
WITHOUT_TRANSACTION = {
    Action.NONE: "current",
    Action.REFUSE: "refused",
    Action.DEFER: "deferred",
    Action.HOLD: "held",
    Action.WAITING: "waiting",
    Action.UNREADABLE: "no backup",
    Action.OFFLINE: "offline",
}


def plan_rows(plan: HostPlan) -> list[Row]:
    """One row per board: what would be done."""
    return [_row(plan, board) for board in plan.boards]


def outcome_rows(plan: HostPlan, outcome: dict[str, Any] | None) -> list[Row]:
    """One row per board: what was done, from the agent's ``outcome`` (``None`` when no transaction was needed)."""
    rows = []
    for board in plan.boards:
        row = dataclasses.replace(_row(plan, board), seconds=None, downtime=None)
        if board.action not in (Action.FLASH, Action.BACK_UP):
            rows.append(dataclasses.replace(row, outcome=_without_transaction(board)))
        elif outcome is None:
            rows.append(dataclasses.replace(row, outcome="failed", detail="no outcome came from the host"))
        else:
            rows.append(_with_outcome(row, board, outcome))
    return rows


def _without_transaction(board: BoardPlan) -> str:
    known_good = board.action is Action.UNREADABLE and board.way_back is not None
    return "known-good only" if known_good else WITHOUT_TRANSACTION[board.action]


def _with_outcome(row: Row, board: BoardPlan, outcome: dict[str, Any]) -> Row:
    result = dict(outcome.get("boards", {})).get(board.name, {})
    word, detail = str(result.get("result", "untouched")), str(result.get("detail", ""))
    if word == "untouched":
        word = "refused" if outcome.get("outcome") == "refused" else "failed"
        detail = detail or str(outcome.get("detail", "")) or "not reached"
    if word == "unreadable":
        word = "known-good only" if board.way_back is not None else "no backup"
    former = row.running if board.code else board.way_back.version if board.way_back else ""
    if word == "flashed" and board.erase:
        erased = f"erased {', '.join(region.name for region in board.erase)}"
        detail = "; ".join(filter(None, [erased, detail]))
    known = {"flashed": row.wanted, "restored": former, "needs-attention": "unknown"}
    running = "unknown" if outcome.get("outcome") == "unknown" else known.get(word, row.running)
    return dataclasses.replace(
        row,
        outcome=word,
        detail=detail,
        running=running,
        seconds=result.get("seconds"),
        downtime=outcome.get("downtime"),
    )


def _row(plan: HostPlan, board: BoardPlan) -> Row:
    way_back = ""
    if board.way_back is not None:
        way_back = f"{board.way_back.version} ({board.way_back_kind})"
    elif board.action is Action.FLASH:
        way_back = f"{board.running.version} (checkout)" if board.code else board.way_back_kind or "none (accepted)"
    flashing = board.action in (Action.FLASH, Action.BACK_UP)
    return Row(
        host=plan.host,
        board=board.name,
        port=board.device or (board.board.port if board.board else ""),
        chip=board.board.chip if board.board else "",
        running=board.running.version or ("unknown" if board.board or board.code else ""),
        wanted=_wanted(board),
        image=board.wanted.image_sha256[:12] if board.wanted else board.code.commit[:12] if board.code else "",
        way_back=way_back,
        seconds=board.seconds if flashing else None,
        downtime=plan.downtime if flashing else None,
        outcome=_without_transaction(board) if board.action is Action.UNREADABLE else board.action.value,
        detail=board.reason,
        backup=board.backup,
        uid=board.uid,
        place=board.place,
    )


def _wanted(board: BoardPlan) -> str:
    if board.code is not None:
        return board.code.version
    if board.wanted is not None:
        return board.wanted.version
    return str(board.board.firmware_version if board.board else "")
