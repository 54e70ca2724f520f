"""The versions that inventory data names: whatever goes, the backups of these stay."""

from collections.abc import Mapping
from typing import Any


def named_by(data: Mapping[str, Any]) -> set[str]:
    """Return what a host's or group's data pins its boards to, and where it says that rollbacks lead.

    A board that is malformed otherwise has its pin, too. What is no text is none; whoever plans says so.
    """
    back, boards = data.get("rollback_version"), data.get("boards")
    named = [data.get("firmware_version"), *(back.values() if isinstance(back, Mapping) else [back])]
    for board in boards.values() if isinstance(boards, Mapping) else ():
        named.append(board.get("firmware_version") if isinstance(board, Mapping) else None)
    return {pin for pin in named if isinstance(pin, str)}
