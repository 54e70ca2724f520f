"""The controller's end of a transaction: hand it over with its images, follow it to its end.

Once the host has said ``started`` it needs nobody: whoever loses the link can ``follow`` it later.
"""

import base64
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.protocols.errors import ProtocolError
from fleetflash.agent.protocols.programmer import Target
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.schema import Transaction, to_json
from fleetflash.link import tool
from fleetflash.link.errors import LinkError, PortLostError
from fleetflash.link.port import LEASE_HEARTBEAT, RemotePort

UPLOAD_CHUNK = 32 * 1024
#: Larger than any boot log that an agent keeps, in bytes.
MOST_LOG_BYTES = 4 << 20

Event = dict[str, Any]
Outcome = dict[str, Any]


class Session(Protocol):
    """What this module needs of ``link.session.AgentSession``."""

    def send(self, message: dict[str, Any]) -> None: ...
    def send_data(self, data: bytes) -> None: ...
    def receive(self, timeout: float | None) -> dict[str, Any] | bytes: ...


class TransactionRefusedError(LinkError):
    """The host did not take the transaction; nothing was touched."""


class TransactionClient:
    """One conversation with ``agent run``. ``on_event`` is called with every event, in order.

    ``monitor_logs``: the boot logs of the transaction by name, once its outcome is there. After the outcome the host
    answers ``link.backups.BackupClient`` until the session is closed.
    """

    def __init__(self, session: Session, host: str, on_event: Callable[[Event], None]):
        self.session = session
        self.host = host
        self.on_event = on_event
        self.monitor_logs: dict[str, bytes] = {}

    def start(self, transaction: Transaction, read_image: Callable[[str], bytes]) -> None:
        """Upload what the host lacks and start the transaction.

        ``read_image`` gives an image's bytes by their sha256. Raises ``TransactionRefusedError`` when the host declines
        (nothing was touched), and another ``LinkError`` when the link is lost: then only the host knows.
        """
        self.session.send({"type": "transaction", "transaction": to_json(transaction), "backups": True})
        for sha256 in self._expect("want", 120.0)["sha256"]:
            image = read_image(sha256)
            self.session.send({"type": "image", "sha256": sha256, "size": len(image)})
            for offset in range(0, len(image), UPLOAD_CHUNK):
                self.session.send_data(image[offset : offset + UPLOAD_CHUNK])
        self._expect("started", 120.0)

    def join(self, transaction_id: str) -> None:
        """Follow a transaction that runs, or ran, without this controller."""
        self.session.send({"type": "follow", "id": transaction_id, "backups": True})

    def follow(self, transaction: Transaction | None, read_image: Callable[[str], bytes]) -> Outcome:
        """Pass on events until the outcome is there. ``transaction`` is needed to write boards over a lent port."""
        kept: Event | None = None
        while True:
            message = kept or self.session.receive(None)
            kept = None
            if isinstance(message, bytes):
                continue  # the last words of a port that was lent and closed
            if message["type"] == "refused":
                raise TransactionRefusedError(f"{self.host}: {message['message']}")
            if message["type"] == "monitor":
                self.monitor_logs[str(message["name"])] = _unpack_log(message, self.host)
                continue
            if message["type"] == "outcome":
                return dict(message["outcome"])
            if message["type"] != "event":
                continue
            event = dict(message["event"])
            self.on_event(event)
            if event.get("step") == "port-offered" and transaction is not None:
                self._write_board(transaction, event, read_image)
            elif event.get("step") == "tool-offered" and transaction is not None:
                kept = self._run_tool(str(event["board"]))

    def _run_tool(self, board: str) -> Event:
        """Run a tool that the host lacks on the port that it lends; return the message that came when it was done."""
        return tool.serve(
            self.session,
            f"{self.host}:{board}",
            lambda message: self.on_event({**message, "step": "progress", "board": board}),
        )

    def _write_board(self, transaction: Transaction, event: Event, read_image: Callable[[str], bytes]) -> None:
        """Erase, program and verify a board through its lent port, with the same protocol code as the agent's."""
        board = next(board for board in transaction.boards if board.name == event["board"])
        image = read_image(str(event["sha256"]))
        port = RemotePort(self.session, f"{self.host}:{board.device}", heartbeat=LEASE_HEARTBEAT)
        target = Target(board.flash_base, board.flash_offset, board.flash_size, board.baud)

        def reopen() -> Port:
            raise PortError(f"{port.name}: a lent port is opened by the host alone")

        def progress(phase: str) -> Callable[[int, int], None]:
            return lambda done, total: self.on_event(
                {"step": "progress", "board": board.name, "phase": phase, "done": done, "total": total}
            )

        try:
            programmer = PROGRAMMERS[board.programmer](port, target, reopen)
            programmer.probe()
            programmer.write(image, progress("program"))
            programmer.verify(image, progress("verify"))
        except PortLostError:
            raise
        except (ProtocolError, PortError) as error:
            port.close(ok=False, error=str(error))
        else:
            port.close(ok=True)

    def _expect(self, kind: str, timeout: float) -> dict[str, Any]:
        message = self.session.receive(timeout)
        if isinstance(message, bytes) or message["type"] not in (kind, "refused"):
            raise LinkError(f"{self.host}: expected {kind!r} from the agent, got {message!r:.80}")
        if message["type"] == "refused":
            raise TransactionRefusedError(f"{self.host}: {message['message']}")
        return message


def _unpack_log(message: dict[str, Any], host: str) -> bytes:
    """Return the log of a ``monitor`` message, no more of it than an agent keeps; raises ``LinkError``."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(str(message["data"])), MOST_LOG_BYTES)
    except (KeyError, ValueError, zlib.error) as error:
        raise LinkError(f"{host}: the agent sent a boot log that is torn ({error}); run again") from None
