"""What a host can tell of a failure: gathered by the agent in one SSH exec, as root where that is allowed."""

from typing import TYPE_CHECKING

from fleetflash.agent.schema import Evidence, EvidenceRequest, SchemaError, from_json, to_json
from fleetflash.link.errors import LinkError, SudoError
from fleetflash.link.session import AgentSession

if TYPE_CHECKING:
    import paramiko

#: Logs may be long and a host slow, in seconds.
EVIDENCE_SECONDS = 90.0


def evidence(transport: "paramiko.Transport", host: str, request: EvidenceRequest, sudo: bool = True) -> Evidence:
    """Have the agent gather evidence; raises ``LinkError`` in one line that names the host.

    ``sudo``: as root, or else, where that is refused, as the login, who sees less of the logs.
    """
    try:
        return _ask(transport, host, request, sudo)
    except SudoError:
        return _ask(transport, host, request, sudo=False)


def _ask(transport: "paramiko.Transport", host: str, request: EvidenceRequest, sudo: bool) -> Evidence:
    with AgentSession(transport, host, ["evidence"], sudo=sudo) as session:
        session.send({"type": "evidence", "request": to_json(request)})
        message = session.receive(EVIDENCE_SECONDS)
    if isinstance(message, bytes) or message["type"] != "evidence":
        raise LinkError(f"{host}: the agent answered something else than evidence: {message!r:.80}")
    try:
        return from_json(Evidence, message["evidence"])
    except SchemaError as error:
        raise LinkError(f"{host}: the agent's evidence makes no sense: {error}") from None
