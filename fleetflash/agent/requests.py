"""What a controller asks of a host besides a transaction: a mark cleared, a hold put or lifted. Needs root."""

from typing import Any, Dict

from fleetflash.agent.holds import Holds
from fleetflash.agent.schema import Hold, SchemaError, from_json, to_json
from fleetflash.agent.store import Store


def clear(message: Dict[str, Any], store: Store) -> Dict[str, Any]:
    """A person has put right what a board needed."""
    board = str(message.get("board", ""))
    detail = store.attention().get(board, "")
    store.clear_attention(board)
    return {"type": "cleared", "detail": detail}


def hold(message: Dict[str, Any], store: Store) -> Dict[str, Any]:
    """A rollback found boards where it would have brought them; raises ``SchemaError`` for what is no hold."""
    holds = message.get("holds")
    if not isinstance(holds, dict):
        raise SchemaError(f"holds: expected an object, found {holds!r:.80}")
    for board, found in {name: from_json(Hold, value) for name, value in holds.items()}.items():
        if not board or "/" in board or board.startswith("."):
            raise SchemaError(f"holds: {board!r} is no name of a board")
        Holds(store).put(board, found)
    return {"type": "held"}


def lift(message: Dict[str, Any], store: Store) -> Dict[str, Any]:
    """Let boards go; the answer says what held them. ``boards``: those that are held, all of them when it is empty."""
    holds = Holds(store)
    asked = [str(board) for board in message.get("boards", [])]
    lifted = {name: found for name, found in holds.all().items() if not asked or name in asked}
    for board in lifted:
        holds.lift(board)
    return {"type": "lifted", "holds": {board: to_json(found) for board, found in lifted.items()}}
