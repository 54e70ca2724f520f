"""The privileged conversation: take a transaction and its images, start it under the guard, tell how it goes.

The process that talks here hangs on the SSH session; the transaction does not. Messages, controller → agent::

    {"type": "transaction", "transaction": {...}}           then, for each hash that is wanted:
    {"type": "image", "sha256": ..., "size": ...}           followed by DATA frames of that many bytes in all
    {"type": "follow", "id": ...}                           instead of the above: join one that is running or over
    {"type": "clear", "board": ...}                         or: a person has put right what a board needed
    {"type": "hold", "holds": {...}}                        or: boards are where a rollback would bring them
    {"type": "lift", "boards": [...]}                       or: holds are lifted; all of them when no board is named
    {"type": "recover"}                                     or: what died is brought to rest, and nothing else is done

With ``"backups": true`` in one of the first two, what ``backup_transfer`` says comes after the outcome.

and agent → controller::

    {"type": "want", "sha256": [...]}    {"type": "started", "id": ...}    {"type": "refused", "message": ...}
    {"type": "event", "event": {...}}    {"type": "outcome", "outcome": {...}}
    {"type": "cleared", "detail": ...}                      what was latched; empty when nothing was
    {"type": "held"}    {"type": "lifted", "holds": {...}}  what held the boards
    {"type": "recovered", "found": [...]}                   see ``recovery``
    {"type": "monitor", "name": ..., "data": ...}           before the outcome: a boot log, as base64 of its zlib stream
"""

import base64
import hashlib
import os
import select
import socket
import sys
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Optional

from fleetflash.agent import backup_transfer, disk, guard, klippy, requests, systemd, wire
from fleetflash.agent.compiled import compiled
from fleetflash.agent.events import POLL_INTERVAL, EventReader, path_for
from fleetflash.agent.patience import settle_seconds
from fleetflash.agent.recovery import Recovery
from fleetflash.agent.schema import UNIT, SchemaError, Transaction, from_json
from fleetflash.agent.store import Store, StoreError

#: After the unit is gone, its outcome must be there within this many seconds.
OUTCOME_SECONDS = 10.0
LOOK_INTERVAL = 0.25
#: Messages that are answered at once: type → what answers it.
REQUESTS: Dict[str, Callable[[Dict[str, Any], Store], Dict[str, Any]]] = {
    "clear": requests.clear,
    "hold": requests.hold,
    "lift": requests.lift,
}


class RefusedError(Exception):
    """The transaction was not started; the message says why."""


def main(store: Store, archive: bytes, stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Hold the conversation; returns the process's exit code."""
    try:
        message = _receive(stdin)
        if os.geteuid() != 0:
            raise RefusedError("the agent must run as root to stop Klipper")
        if message["type"] in REQUESTS:
            if message["type"] == "hold":
                _refuse_if_running(store)
            _send(stdout, REQUESTS[message["type"]](message, store))
            return 0
        if message["type"] == "recover":
            _send(stdout, {"type": "recovered", "found": _recover(store, archive)})
            return 0
        if message["type"] == "follow":
            transaction_id, lend = str(message.get("id", "")), False
            if store.transaction_directory(transaction_id).is_dir():
                _settle_leftovers(store, archive)
            else:
                raise RefusedError(f"transaction {transaction_id} never began on this host")
        else:
            transaction_id, lend = _start(message, store, archive, stdin, stdout), True
            _send(stdout, {"type": "started", "id": transaction_id})
        outcome = _follow(transaction_id, lend, store, stdin, stdout)
        for path in sorted(store.transaction_directory(transaction_id).glob("monitor-*.log")):
            data = base64.b64encode(zlib.compress(path.read_bytes())).decode()
            _send(stdout, {"type": "monitor", "name": path.name, "data": data})
        _send(stdout, {"type": "outcome", "outcome": outcome})
        if store.read_outcome(transaction_id) is not None:
            store.mark_reported(transaction_id)
        if message.get("backups"):
            backup_transfer.serve(store, stdin, stdout)
    except (RefusedError, wire.WireError, SchemaError, StoreError, systemd.SystemdError, OSError) as error:
        _send(stdout, {"type": "refused", "message": str(error)})
        return 1
    return 0


def _start(message: Dict[str, Any], store: Store, archive: bytes, stdin: BinaryIO, stdout: BinaryIO) -> str:
    transaction = from_json(Transaction, message.get("transaction"))
    _refuse_if_running(store)
    _settle_leftovers(store, archive)
    agent = _install(store, archive)
    wanted = {
        image.sha256
        for board in ([] if transaction.backup_only else transaction.boards)
        for image in ([board.wanted] if board.host_writes else []) + ([board.way_back] if board.way_back else [])
        if disk.sha256_file(store.image(image.sha256)) != image.sha256
    }
    bundle = transaction.host_code.bundle if transaction.host_code else None
    if bundle is not None and disk.sha256_file(store.image(bundle.sha256)) != bundle.sha256:
        wanted.add(bundle.sha256)
    _send(stdout, {"type": "want", "sha256": sorted(wanted)})
    while wanted:
        wanted.discard(_receive_image(store, stdin))
    store.write_transaction(transaction)
    guard.RUN.mkdir(parents=True, exist_ok=True)
    path_for(transaction.id).touch()
    try:
        guard.start_guarded(transaction, agent, store.outcome_path(transaction.id))
    except systemd.SystemdError:
        # A slow systemd may have started it all the same; otherwise somebody else's has the unit.
        if transaction.id not in systemd.show(UNIT, ["Description"]).get("Description", ""):
            store.forget_transaction(transaction.id)
            _refuse_if_running(store)
            raise
    return transaction.id


def _refuse_if_running(store: Store) -> None:
    if not guard.is_idle():
        newest = store.newest_transaction()
        holder = store.controller(newest) if newest else ""
        raise RefusedError(
            f"another transaction ({newest or 'unknown'}, started by {holder or 'unknown'}) is running on this host; "
            "run again when it is over"
        )


def _settle_leftovers(store: Store, archive: bytes) -> None:
    """Bring to rest what neither its guard nor a boot has settled, under the same guard as a transaction.

    Raises ``RefusedError`` while a print runs: whoever prints has seen to it that the printer works.
    """
    for transaction_id in store.unfinished():
        if not guard.is_idle():
            return
        try:
            transaction = store.read_transaction(transaction_id)
        except StoreError as error:
            # Written by another version, or torn: nothing can be known of it, and it must not block the host.
            store.write_outcome(transaction_id, {"outcome": "unknown", "detail": str(error), "boards": {}})
            continue
        if transaction.service and systemd.is_active(transaction.service):
            try:
                status = klippy.status(transaction.socket)
            except klippy.KlippyError:
                status = None
            if status is not None and status.prints:
                raise RefusedError(
                    f"transaction {transaction_id} is unfinished, but the printer is {status.print_state}; "
                    "run again when it is idle"
                )
        guard.start_guarded(transaction, _install(store, archive), store.outcome_path(transaction_id), "settle")
        deadline = time.monotonic() + settle_seconds(transaction)
        while not guard.is_idle():
            if time.monotonic() > deadline:
                raise RefusedError(f"transaction {transaction_id} does not come to rest; look at fleetflash.service")
            time.sleep(POLL_INTERVAL)
        if store.read_outcome(transaction_id) is None:
            # Settled after a newer one, it would write its ways back over what that one has committed.
            raise RefusedError(
                f"transaction {transaction_id} could not be brought to rest; see journalctl -u fleetflash.service"
            )


def _recover(store: Store, archive: bytes) -> List[Dict[str, Any]]:
    def settle() -> str:
        try:
            _settle_leftovers(store, archive)
        except RefusedError as error:
            return str(error)
        return ""

    def lower() -> str:
        newest = store.newest_transaction()
        if newest is None:
            return "no transaction is known that it could belong to; remove it"
        transaction = store.read_transaction(newest)
        # Under the unit, so that no transaction begins meanwhile; its end starts what was left stopped.
        guard.start_guarded(transaction, _install(store, archive), store.outcome_path(newest), "settle")
        return ""

    return Recovery(store, settle, lower).run()


def _install(store: Store, archive: bytes) -> Path:
    sha256 = hashlib.sha256(archive).hexdigest()
    path = store.agent(sha256)
    if disk.sha256_file(path) != sha256:
        disk.write_file(path, archive)
    quick = store.compiled_agent(sha256)
    if not quick.exists():
        try:
            disk.write_file(quick, compiled(archive))
        except OSError:
            pass  # a full disk; it only saves time
    return path


def _receive_image(store: Store, stdin: BinaryIO) -> str:
    message = _receive(stdin)
    if message["type"] != "image":
        raise wire.WireError(f"expected an image, got {message['type']}")
    sha256, size = str(message["sha256"]), int(message["size"])
    data = b""
    while len(data) < size:
        frame = wire.read_frame(stdin)
        if frame is None or frame[0] != wire.DATA:
            raise wire.WireError(f"image {sha256[:12]}: the upload ended after {len(data)} of {size} bytes")
        data += frame[1]
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise RefusedError(f"image {sha256[:12]}: what arrived has sha256 {found[:12]}; run again")
    # Root's alone: an image of a gateway may hold a partition with its Wi-Fi's credentials.
    disk.write_file(store.image(sha256), data, mode=0o600)
    return sha256


def _follow(transaction_id: str, lend: bool, store: Store, stdin: BinaryIO, stdout: BinaryIO) -> Dict[str, Any]:
    """Pass on the transaction's events until it is over; return its outcome.

    ``lend``: this controller started it and takes lent ports; one that only looks on would leave them idle.
    """
    reader = EventReader(path_for(transaction_id))
    gone_since: Optional[float] = None
    next_look = 0.0
    while True:
        for event in reader.read():
            _send(stdout, {"type": "event", "event": event})
            if lend and event.get("step") in ("port-offered", "tool-offered"):
                _relay(str(event["socket"]), stdin, stdout)
        if _hung_up(stdin):
            sys.exit(0)  # the controller is gone; the transaction goes on without it
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + LOOK_INTERVAL
            gone = guard.is_idle()
            outcome = store.read_outcome(transaction_id) if gone else None
            if outcome is not None:
                for event in reader.read():
                    _send(stdout, {"type": "event", "event": event})
                return outcome
            if not gone:
                gone_since = None
            elif gone_since is None:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since > OUTCOME_SECONDS:
                detail = f"transaction {transaction_id} ended without an outcome"
                return {"outcome": "unknown", "detail": detail, "boards": {}}
        time.sleep(POLL_INTERVAL)


def _relay(path: str, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Carry frames between the controller and the transaction's lent port until the transaction closes it."""
    with socket.socket(socket.AF_UNIX) as port:
        try:
            port.connect(path)
        except OSError:
            return  # offered to an earlier follower; the transaction's own clock settles it
        poller = select.poll()
        poller.register(stdin.fileno(), select.POLLIN)
        poller.register(port.fileno(), select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == port.fileno():
                    data = port.recv(65536)
                    if not data:
                        return
                    stdout.write(data)
                    stdout.flush()
                else:
                    data = os.read(stdin.fileno(), 65536)
                    if not data:
                        return
                    port.sendall(data)


def _receive(stdin: BinaryIO) -> Dict[str, Any]:
    frame = wire.read_frame(stdin)
    if frame is None or frame[0] != wire.JSON:
        raise wire.WireError("expected a message, the controller sent none")
    return wire.decode_json(frame[1])


def _send(stdout: BinaryIO, message: Dict[str, Any]) -> None:
    stdout.write(wire.encode_json(message))
    stdout.flush()


def _hung_up(stdin: BinaryIO) -> bool:
    poller = select.poll()
    poller.register(stdin.fileno(), select.POLLIN)
    for _, event in poller.poll(0):
        if event & (select.POLLHUP | select.POLLERR):
            return True
        # What still comes belongs to a lent port that is closed by now.
        if event & select.POLLIN and not os.read(stdin.fileno(), 65536):
            return True
    return False
