"""What brings a printer back when the transaction that stopped it dies.

Three layers, each for another death:

- the transaction runs in a transient unit whose ``ExecStopPost`` settles it: for a killed agent, a lost controller;
- an enabled unit, ordered before Klipper, settles it at the next boot: for a power cut;
- a drop-in on the Klipper service keeps it from being started while boards are written: for Mainsail and people.
  (``systemctl mask --runtime`` doesn't override a unit that lies in /etc.)
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List

from fleetflash.agent import disk, systemd
from fleetflash.agent.observed import UNIT

if TYPE_CHECKING:
    from fleetflash.agent.schema import Transaction

RUN = Path("/run/fleetflash")
BUSY = RUN / "busy"
#: There while Klipper is stopped by a transaction, and not by somebody else.
STOPPED = RUN / "stopped"
SETTLE_UNIT = Path("/etc/systemd/system/fleetflash-settle.service")
SETTLE_LINK = Path("/etc/systemd/system/multi-user.target.wants/fleetflash-settle.service")

#: What runs while boards may be written.
UNITS = (UNIT, SETTLE_UNIT.name)

SETTLE_TEXT = """\
# Written by fleetflash for the time of one transaction; removed when it ends.
[Unit]
Description=fleetflash: settle the transaction that a power cut interrupted
Before={before}
ConditionPathExists={agent}
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=oneshot
Restart=on-failure
RestartSec=10
TimeoutStartSec={timeout:.0f}
ExecStart={command}

[Install]
WantedBy=multi-user.target
"""

DROP_IN_TEXT = """\
# Written by fleetflash: no start while boards are being written.
[Unit]
ConditionPathExists=!{busy}
"""


def start_guarded(transaction: "Transaction", agent: Path, outcome: Path, verb: str = "transact") -> None:
    """Run the transaction in its transient unit; raises ``SystemdError`` when one is running already.

    ``verb``: ``transact``, or ``settle`` for one that died. ``outcome``: the file that says that it is over.
    """
    settle = " ".join(_command(agent, "settle", transaction.id))
    start = f"systemctl --no-block start {transaction.service}"
    properties = [
        "Type=exec",
        f"Description=fleetflash transaction {transaction.id}",
        f"TimeoutStopSec={_settle_seconds(transaction):.0f}",
        # The "-" keeps a failing line from skipping those after it.
        f"ExecStopPost=-{settle}",
        f"ExecStopPost=-/bin/rm -f {BUSY}",
    ]
    if transaction.was_active:
        # Only a Klipper that this transaction has stopped: somebody else's stop is theirs.
        properties.append(f"ExecStopPost=-/bin/sh -c 'test ! -e {STOPPED} || {start}'")
    # A settle that dies, too, is tried again by the unit that a reboot would start.
    again = f"test -e {outcome} || test ! -e {SETTLE_UNIT} || systemctl --no-block start {SETTLE_UNIT.name}"
    properties.append(f"ExecStopPost=-/bin/sh -c '{again}'")
    systemd.run_transient(UNIT, properties, _command(agent, verb, transaction.id))


def is_idle() -> bool:
    """Whether neither a transaction runs nor the settling of one, after its death or after a boot."""
    return are_idle(systemd.show_all(UNITS, ["ActiveState"]))


def are_idle(units: Dict[str, Dict[str, str]]) -> bool:
    """As ``is_idle``, from what systemd has said of ``UNITS``."""
    return all(units[unit].get("ActiveState", "inactive") in systemd.GONE_STATES for unit in UNITS)


def raise_guard(transaction: "Transaction", agent: Path) -> None:
    """Install the settle unit and the drop-in; after this, and not before, Klipper may be stopped."""
    text = SETTLE_TEXT.format(
        # Without Klipper there is nothing that must wait.
        before=transaction.service or "multi-user.target",
        agent=agent,
        timeout=_settle_seconds(transaction),
        command=" ".join(_command(agent, "settle", transaction.id)),
    )
    disk.write_file(SETTLE_UNIT, text.encode())
    disk.make_directory(SETTLE_LINK.parent)
    if not SETTLE_LINK.is_symlink():
        os.symlink(str(SETTLE_UNIT), str(SETTLE_LINK))
        disk.sync_directory(SETTLE_LINK.parent)
    if transaction.service:
        drop_in = _drop_in(transaction.service)
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text(DROP_IN_TEXT.format(busy=BUSY))
    hold()
    systemd.systemctl("daemon-reload")


def hold() -> None:
    """From now on the Klipper service can't be started."""
    RUN.mkdir(parents=True, exist_ok=True)
    BUSY.touch()


def mark_stopped() -> None:
    """From now on it is a transaction that keeps Klipper stopped; the mark holds the moment, by the monotonic clock."""
    RUN.mkdir(parents=True, exist_ok=True)
    STOPPED.write_text(str(time.monotonic()))


def is_kept_stopped(service: str) -> bool:
    """Whether a transaction has stopped Klipper and nobody has started it since.

    Source: systemd's D-Bus interface, ``ActiveEnterTimestampMonotonic``: microseconds of CLOCK_MONOTONIC.
    """
    try:
        stopped = float(STOPPED.read_text())
    except (OSError, ValueError):
        return False
    facts = systemd.show(service, ["ActiveState", "ActiveEnterTimestampMonotonic"])
    if facts.get("ActiveState") in systemd.ACTIVE_STATES:
        return False
    return int(facts.get("ActiveEnterTimestampMonotonic") or 0) < stopped * 1e6


def forget_stopped() -> None:
    """A mark that an earlier transaction left says nothing of this one."""
    if STOPPED.exists():
        STOPPED.unlink()


def release() -> None:
    """The Klipper service may be started again."""
    if BUSY.exists():
        BUSY.unlink()


def lower_guard(transaction: "Transaction") -> None:
    """Remove everything that ``raise_guard`` installed; harmless when nothing is there."""
    release()
    if STOPPED.exists() and transaction.service and systemd.is_active(transaction.service):
        STOPPED.unlink()
    changed = False
    drop_in = _drop_in(transaction.service)
    for path in (drop_in, SETTLE_LINK, SETTLE_UNIT):
        if path.exists() or path.is_symlink():
            disk.remove(path)
            changed = True
    if drop_in.parent.is_dir() and not any(drop_in.parent.iterdir()):
        drop_in.parent.rmdir()
    if changed:
        systemd.systemctl("daemon-reload")


def _settle_seconds(transaction: "Transaction") -> float:
    from fleetflash.agent.patience import settle_seconds  # not for every look at a host

    return settle_seconds(transaction)


def _drop_in(service: str) -> Path:
    return Path("/run/systemd/system") / f"{service}.d" / "50-fleetflash.conf"


def _command(agent: Path, *arguments: str) -> List[str]:
    return [sys.executable or "/usr/bin/python3", "-B", str(agent), *arguments]
