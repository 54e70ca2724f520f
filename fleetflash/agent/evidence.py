"""What a host can tell of a failure: the transaction's record, the ends of logs, its environment and versions.

Nothing is changed, everything is bounded, and what can't be had is said instead. Without root, the kernel's log and
that of the agent's unit are mostly missing.
"""

import os
import pwd
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional

from fleetflash.agent import capture, disk, host_environment, kernel_log, log_tail, moonraker_facts, systemd
from fleetflash.agent.schema import UNIT, Evidence, EvidenceRequest, Excerpt, SchemaError
from fleetflash.agent.store import Store

#: The journal of a transaction has some dozen steps; one that was settled again and again has more.
MOST_STEPS = 1000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_JOURNAL = ("--no-pager", "-q", "-o", "short-iso", "-n", str(log_tail.LINES))


def gather(request: EvidenceRequest, store: Store) -> Evidence:
    """Raises ``SchemaError`` for a transaction whose name could lead out of the store."""
    transaction = request.transaction or store.newest_transaction() or ""
    if transaction and not _ID.fullmatch(transaction):
        raise SchemaError(f"EvidenceRequest.transaction: {transaction!r} is no name of a transaction")
    printer = _Printer.of(request) if request.service else None
    moonraker = moonraker_facts.ask(request.moonraker) if request.moonraker else {}
    found = Evidence(
        hostname=socket.gethostname(),
        environment=host_environment.describe(),
        versions=host_environment.versions(printer.socket if printer else "", moonraker),
        moonraker=moonraker,
    )
    if not request.logs:
        return found
    logs = {
        "kernel": kernel_log.about(request.ports),
        "agent": log_tail.of_command(["journalctl", "-u", UNIT, *_JOURNAL]),
    }
    if printer is not None:
        logs.update(printer.logs())
    if not transaction:
        return replace(found, logs=logs)
    for device, lines in capture.read(transaction).items():
        logs[f"serial-{device}"] = Excerpt(f"port {device}", lines)
    return replace(
        found,
        transaction=transaction,
        record=_record(transaction, store),
        journal=store.journal(transaction).read()[-MOST_STEPS:],
        logs=logs,
    )


def _record(transaction: str, store: Store) -> Dict[str, Any]:
    """Return the transaction's files as they are; ``None`` for one that is missing or torn."""
    directory = store.transaction_directory(transaction)
    return {name: disk.read_json(directory / f"{name}.json") for name in ("transaction", "outcome")}


@dataclass(frozen=True)
class _Printer:
    """A Klipper service: its user's number, its running process (0: none), and where its socket and logs are."""

    service: str
    user: int
    pid: int
    socket: str
    directory: Path

    @classmethod
    def of(cls, request: EvidenceRequest) -> "_Printer":
        """Without a socket in the request, or beside one, everything is where KIAUH puts it: ``~/printer_data``."""
        try:
            facts = systemd.show(request.service, ["User", "MainPID"])
        except systemd.SystemdError:
            facts = {}
        try:
            account = pwd.getpwnam(facts["User"]) if facts.get("User") else pwd.getpwuid(os.geteuid())
        except KeyError:
            account = pwd.getpwuid(os.geteuid())
        data = Path(account.pw_dir) / "printer_data"
        if request.socket and Path(request.socket).parent.name == "comms":
            data = Path(request.socket).parent.parent
        path = request.socket or str(data / "comms/klippy.sock")
        return cls(request.service, account.pw_uid, int(facts.get("MainPID") or 0), path, data / "logs")

    def logs(self) -> Dict[str, Excerpt]:
        return {
            "klipper-unit": log_tail.of_command(["journalctl", "-u", self.service, *_JOURNAL]),
            "klippy": log_tail.of_file(self._klippy_log() or self.directory / "klippy.log", self.user),
            "moonraker": log_tail.of_file(self.directory / "moonraker.log", self.user),
        }

    def _klippy_log(self) -> Optional[Path]:
        """Return the log that a running klippy was told to write (``-l``), whatever its unit's file says."""
        try:
            words: List[str] = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return None
        named = [words[place + 1] for place, word in enumerate(words[:-1]) if word in ("-l", "--logfile")]
        return Path(named[0]) if named and named[0].startswith("/") else None
