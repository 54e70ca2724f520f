"""One question to the privileged agent of a host, and its answer."""

from typing import TYPE_CHECKING, Any

from fleetflash.link.errors import LinkError
from fleetflash.link.session import AgentSession

if TYPE_CHECKING:
    import paramiko

#: What does not wait for a board is answered within this many seconds.
ANSWER_SECONDS = 30.0


def ask(
    transport: "paramiko.Transport",
    host: str,
    message: dict[str, Any],
    expected: str,
    seconds: float | None = ANSWER_SECONDS,
) -> dict[str, Any]:
    """Return the agent's answer, of the type ``expected``; raises ``LinkError`` when it refuses or says anything else.

    ``seconds``: how long it may take; ``None``: as long as it takes.
    """
    with AgentSession(transport, host, ["run"], sudo=True) as session:
        session.send(message)
        answer = session.receive(seconds)
    if isinstance(answer, bytes) or answer["type"] not in (expected, "refused"):
        raise LinkError(f"{host}: expected {expected!r} from the agent, got {answer!r:.200}")
    if answer["type"] == "refused":
        raise LinkError(f"{host}: {answer['message']}")
    return answer
