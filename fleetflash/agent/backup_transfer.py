"""How a host's backups come to the controller: over the conversation that followed a transaction, after its outcome.

Messages, controller → agent, until it hangs up::

    {"type": "backups", "boards": [...]}        what is there of these boards?
    {"type": "fetch", "sha256": ...}            the bytes of one of them

and agent → controller::

    {"type": "backups", "backups": [...]}       each as ``schema.Backup``, newest first
    {"type": "image", "sha256": ..., "size": ...}       followed by DATA frames of that many bytes in all
    {"type": "absent", "sha256": ..., "message": ...}   instead: it is not there, or damaged
"""

from typing import Any, BinaryIO, Dict, Set

from fleetflash.agent import wire
from fleetflash.agent.backups import Backups
from fleetflash.agent.schema import to_json
from fleetflash.agent.store import Store, StoreError

CHUNK = 64 * 1024


def serve(store: Store, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer until the controller hangs up; raises ``WireError``. Nothing but bytes of backups is given away."""
    offered: Set[str] = set()
    while True:
        frame = wire.read_frame(stdin)
        if frame is None:
            return
        if frame[0] != wire.JSON:
            continue  # the last words of a port that was lent
        message = wire.decode_json(frame[1])
        if message["type"] == "backups":
            found = [backup for board in message.get("boards", []) for backup in Backups(store).of(str(board))]
            offered = {backup.image.sha256 for backup in found}
            _send(stdout, {"type": "backups", "backups": [to_json(backup) for backup in found]})
        elif message["type"] == "fetch":
            _give(str(message.get("sha256", "")), offered, store, stdout)


def _give(sha256: str, offered: Set[str], store: Store, stdout: BinaryIO) -> None:
    try:
        if sha256 not in offered:
            raise StoreError(f"{sha256[:12]} is no backup of a board that was asked for")
        data = store.read_image(sha256)
    except (StoreError, OSError) as error:
        _send(stdout, {"type": "absent", "sha256": sha256, "message": str(error)})
        return
    _send(stdout, {"type": "image", "sha256": sha256, "size": len(data)})
    for start in range(0, len(data), CHUNK):
        stdout.write(wire.encode(wire.DATA, data[start : start + CHUNK]))
    stdout.flush()


def _send(stdout: BinaryIO, message: Dict[str, Any]) -> None:
    stdout.write(wire.encode_json(message))
    stdout.flush()
