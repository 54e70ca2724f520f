"""Which backups may go: decided alike for those on a host and those on the controller. Nothing here does I/O."""

from typing import Callable, Container, Dict, Hashable, List, Sequence

from fleetflash.agent.schema import Backup, Retention

DAY_SECONDS = 86400.0


def expired(
    backups: Sequence[Backup], retention: Retention, now: float, unfinished: Container[str] = ()
) -> List[Backup]:
    """Return the backups of one board that are too many or too old, and that nothing needs.

    + backups: of one board, newest first
    + now: seconds since 1970, by the clock that gave ``Backup.taken_at``
    + unfinished: ids of transactions that may still want theirs back

    Never returned: the newest of each kind of each chip that had the board's name, the newest of what each pin names,
    and those of unfinished transactions. A clock that was set back makes nothing old.
    """
    needed = [*_newest(backups, _identity), *_named_by_pins(backups, retention.pins)]
    return [
        backup
        for place, backup in enumerate(backups)
        if (place >= retention.keep or now - backup.taken_at > retention.days * DAY_SECONDS)
        and backup not in needed
        and backup.transaction not in unfinished
    ]


def is_named(backup: Backup, pin: str) -> bool:
    """Whether a pin of the inventory means this backup: its version, or ``sha256:`` and how a hash of it begins."""
    if pin.startswith("sha256:"):
        prefix = pin[len("sha256:") :].lower()
        return backup.image.sha256.startswith(prefix) or backup.image.artifact.startswith(prefix)
    return backup.image.version == pin


def _identity(backup: Backup) -> Hashable:
    return backup.kind, backup.chip, backup.uid, backup.flash_offset


def _newest(backups: Sequence[Backup], group: Callable[[Backup], Hashable]) -> List[Backup]:
    found: Dict[Hashable, Backup] = {}
    for backup in backups:
        found.setdefault(group(backup), backup)
    return list(found.values())


def _named_by_pins(backups: Sequence[Backup], pins: Sequence[str]) -> List[Backup]:
    named = ([backup for backup in backups if is_named(backup, pin)] for pin in pins)
    return [found[0] for found in named if found]
