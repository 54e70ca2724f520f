"""The controller's end of ``agent.backup_transfer``: what a host has kept of its boards, and the bytes of it."""

import hashlib
from collections.abc import Iterable
from typing import Any

from fleetflash.agent.schema import Backup, SchemaError, from_json
from fleetflash.link.errors import AgentError, LinkError
from fleetflash.link.transaction import Session

#: A host gets this long for each answer, and for each piece of an image, in seconds.
ANSWER_SECONDS = 60.0


class BackupAbsentError(LinkError):
    """The host has the record of a backup and not its bytes, or not those that the record names."""


class BackupClient:
    """Goes on with the conversation of a ``TransactionClient`` whose transaction is over."""

    def __init__(self, session: Session, host: str):
        self.session = session
        self.host = host

    def records(self, boards: Iterable[str]) -> list[Backup]:
        """Return the records of these boards' backups, newest first for each; raises ``LinkError``."""
        self.session.send({"type": "backups", "boards": list(boards)})
        answer = self._receive("backups")
        try:
            return [from_json(Backup, entry) for entry in answer["backups"]]
        except (SchemaError, KeyError, TypeError) as error:
            raise AgentError(f"{self.host}: its list of backups makes no sense: {error}") from None

    def image(self, backup: Backup) -> bytes:
        """Return a backup's bytes, checked by their sha256; raises ``BackupAbsentError`` or another ``LinkError``."""
        sha256 = backup.image.sha256
        self.session.send({"type": "fetch", "sha256": sha256})
        size = int(self._receive("image").get("size", 0))
        pieces, received = [], 0
        while received < size:
            piece = self.session.receive(ANSWER_SECONDS)
            if not isinstance(piece, bytes):
                raise AgentError(f"{self.host}: {piece['type']!r} came in the middle of backup {sha256[:12]}")
            pieces.append(piece)
            received += len(piece)
        data = b"".join(pieces)
        if (found := hashlib.sha256(data).hexdigest()) != sha256:
            raise BackupAbsentError(f"{self.host}: what came of backup {sha256[:12]} has sha256 {found[:12]}")
        return data

    def _receive(self, kind: str) -> dict[str, Any]:
        message = self.session.receive(ANSWER_SECONDS)
        while isinstance(message, bytes):
            message = self.session.receive(ANSWER_SECONDS)  # the last words of a port that was lent
        if message["type"] == "absent":
            raise BackupAbsentError(f"{self.host}: {message.get('message', 'the backup is not there')}")
        if message["type"] != kind:
            raise AgentError(f"{self.host}: expected {kind!r} from the agent, got {message!r:.80}")
        return message
