"""The controller's end of holds: put on a host, and lifted."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fleetflash.agent.schema import Hold, SchemaError, from_json, to_json
from fleetflash.link.errors import LinkError
from fleetflash.link.request import ask

if TYPE_CHECKING:
    import paramiko


def put(transport: "paramiko.Transport", host: str, holds: Mapping[str, Hold]) -> None:
    """Hold boards of a host that are where they shall be held; raises ``LinkError``."""
    ask(transport, host, {"type": "hold", "holds": {name: to_json(hold) for name, hold in holds.items()}}, "held")


def lift(transport: "paramiko.Transport", host: str, boards: Iterable[str]) -> dict[str, Hold]:
    """Let boards of a host go, all of them when none is named; return what held them. Raises ``LinkError``."""
    answer = ask(transport, host, {"type": "lift", "boards": list(boards)}, "lifted")
    try:
        return {name: from_json(Hold, value) for name, value in dict(answer["holds"]).items()}
    except SchemaError as error:
        raise LinkError(f"{host}: the agent's holds make no sense: {error}") from None
