"""The agent's command line, started by the controller over SSH or by systemd on the host.

Unprivileged: ``snapshot``, ``serve``, ``identify``, ``compile``, and ``evidence``, which finds more as root. As root:
``run`` and ``provision`` (over SSH), ``transact`` and ``settle`` (systemd).
On an SSH channel the bootstrap has said ``wire.MARKER`` before this runs.

Each command imports what it needs: the agent runs from an archive in memory, so Python compiles every module anew each
time, and a snapshot must not pay for all programmers.
"""

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, List, Tuple, Type

if TYPE_CHECKING:
    from fleetflash.agent.transaction import Runner


def main() -> int:
    command, *arguments = sys.argv[1:] or [""]
    if command != "snapshot":
        gc.enable()  # the bootstrap starts without
    if command not in COMMANDS:
        print(f"expected one of: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[command](arguments)
    except Exception as error:
        if not isinstance(error, _told()):
            raise
        print(error, file=sys.stderr)
        return 1


def _told() -> Tuple[Type[Exception], ...]:
    """Return the errors whose message says all."""
    from fleetflash.agent.port import PortError
    from fleetflash.agent.protocols.errors import ProtocolError
    from fleetflash.agent.schema import SchemaError
    from fleetflash.agent.store import StoreError
    from fleetflash.agent.systemd import SystemdError
    from fleetflash.agent.wire import WireError

    return PortError, ProtocolError, SchemaError, StoreError, SystemdError, WireError


def _snapshot(arguments: List[str]) -> int:
    from fleetflash.agent import snapshot, wire
    from fleetflash.agent.as_json import from_json, to_json
    from fleetflash.agent.observed import SnapshotRequest
    from fleetflash.agent.store import Store

    stdin, stdout = _streams()
    frame = wire.read_frame(stdin)
    if frame is None:
        return 1
    request = from_json(SnapshotRequest, wire.decode_json(frame[1]).get("request"))
    answer: Dict[str, Any] = {"type": "snapshot", "snapshot": to_json(snapshot.take(request, Store()))}
    stdout.write(wire.encode_json(answer))
    stdout.flush()
    return 0


def _evidence(arguments: List[str]) -> int:
    from fleetflash.agent import evidence, wire
    from fleetflash.agent.schema import EvidenceRequest, from_json, to_json
    from fleetflash.agent.store import Store

    stdin, stdout = _streams()
    frame = wire.read_frame(stdin)
    if frame is None:
        return 1
    request = from_json(EvidenceRequest, wire.decode_json(frame[1]).get("request"))
    found = to_json(evidence.gather(request, Store()))
    stdout.write(wire.encode_json({"type": "evidence", "evidence": found}))
    stdout.flush()
    return 0


def _serve(arguments: List[str]) -> int:
    from fleetflash.agent import serve

    return serve.main(0, 1)


def _run(arguments: List[str]) -> int:
    from fleetflash.agent import run
    from fleetflash.agent.store import Store

    stdin, stdout = _streams()
    return run.main(Store(), _archive().read_bytes(), stdin, stdout)


def _provision(arguments: List[str]) -> int:
    from fleetflash.agent import provision

    return provision.main(*_streams())


def _compile(arguments: List[str]) -> int:
    from fleetflash.agent import compile

    return compile.main(*_streams())


def _transact(arguments: List[str]) -> int:
    from fleetflash.agent.record import COMMITTED

    return 0 if _runner(arguments[0]).run() == COMMITTED else 1


def _settle(arguments: List[str]) -> int:
    # Settled is settled, whatever came of it; only what isn't is to be tried again.
    return 0 if _runner(arguments[0]).settle() else 1


def _identify(arguments: List[str]) -> int:
    """``identify PORT [BAUD]``: print what the Klipper firmware behind a free port says of itself."""
    from fleetflash.agent.ports import SerialPort
    from fleetflash.agent.protocols import klipper

    port = SerialPort.open(arguments[0], int(arguments[1]) if len(arguments) > 1 else 250000)
    try:
        found = klipper.identify(port)
    finally:
        port.close()
    facts = {"version": found.version, "build_versions": found.build_versions, "constants": found.constants}
    print(json.dumps(facts, indent=1, sort_keys=True))
    return 0


def _runner(transaction_id: str) -> "Runner":
    from fleetflash.agent.backup_run import BackupRunner
    from fleetflash.agent.capture import Recorder
    from fleetflash.agent.store import Store
    from fleetflash.agent.transaction import Runner

    store = Store()
    transaction = store.read_transaction(transaction_id)
    kind = BackupRunner if transaction.backup_only else Runner
    # What a flash tool reads and writes may be a gateway's flash, with its Wi-Fi's password.
    recorder = Recorder(transaction_id, {board.device for board in transaction.boards if board.tool})
    return kind(transaction, store, _archive(), recorder.open)


def _archive() -> Path:
    """Return the zip file that the bootstrap or systemd has started; modules may come from the same, compiled."""
    started = vars(sys.modules["__main__"])
    return Path(started.get("ARCHIVE") or started["__loader__"].archive)


def _streams() -> Tuple[BinaryIO, BinaryIO]:
    # Unbuffered: the relay of a lent port reads the descriptor itself, and nothing may be left in a buffer.
    return open(0, "rb", buffering=0, closefd=False), sys.stdout.buffer


COMMANDS: Dict[str, Callable[[List[str]], int]] = {
    "snapshot": _snapshot,
    "evidence": _evidence,
    "serve": _serve,
    "identify": _identify,
    "run": _run,
    "provision": _provision,
    "compile": _compile,
    "transact": _transact,
    "settle": _settle,
}


if __name__ == "__main__":
    sys.exit(main())
