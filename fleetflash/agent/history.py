"""What a journal says: pure readings of its entries."""

from typing import Any, Dict, List, Set

from fleetflash.agent.moment import elapsed
from fleetflash.agent.schema import Image, from_json

Entries = List[Dict[str, Any]]


def unsettled(entries: Entries) -> Set[str]:
    """Return the boards whose flash was touched and not restored since; likewise the host code."""
    touched: Set[str] = set()
    for entry in entries:
        if entry["step"] in ("writing", "checkout"):
            touched.add(str(entry["board"]))
        elif entry["step"] == "restored":
            touched.discard(str(entry["board"]))
    return touched


def restored_boards(entries: Entries) -> Set[str]:
    return {str(entry["board"]) for entry in entries if entry["step"] == "restored"} - unsettled(entries)


def resisting(entries: Entries) -> Set[str]:
    """Return the boards that resisted their way back and have not come back since."""
    found: Set[str] = set()
    for entry in entries:
        if entry["step"] == "resisting":
            found.add(str(entry["board"]))
        elif entry["step"] == "restored":
            found.discard(str(entry["board"]))
    return found


def attempts(entries: Entries) -> Dict[str, int]:
    """Return how often each board's way back was begun since it was last written or restored."""
    found: Dict[str, int] = {}
    for entry in entries:
        if entry["step"] == "restoring":
            found[str(entry["board"])] = found.get(str(entry["board"]), 0) + 1
        elif entry["step"] in ("writing", "restored"):
            found.pop(str(entry["board"]), None)
    return found


def verified_boards(entries: Entries) -> Set[str]:
    """Return the boards whose last write was verified."""
    verified: Set[str] = set()
    for entry in entries:
        if entry["step"] in ("verified", "checked-out"):
            verified.add(str(entry["board"]))
        elif entry["step"] in ("writing", "checkout", "restoring"):
            verified.discard(str(entry["board"]))
    return verified


def failures(entries: Entries) -> Dict[str, str]:
    """Return what went wrong first with each board that failed while it was written."""
    found: Dict[str, str] = {}
    for entry in entries:
        if entry["step"] == "failed":
            found.setdefault(str(entry["board"]), str(entry["error"]))
    return found


def uids(entries: Entries) -> Dict[str, str]:
    """Return the unique id that each written board had; a protected chip tells it only once it was verified."""
    found: Dict[str, str] = {}
    for entry in entries:
        if entry["step"] in ("writing", "verified"):
            found[str(entry["board"])] = str(entry.get("uid", "")) or found.get(str(entry["board"]), "")
    return found


def backed_up(entries: Entries) -> Dict[str, Image]:
    """Return what was read back from boards before they were erased."""
    return {str(entry["board"]): from_json(Image, entry["image"]) for entry in entries if entry["step"] == "backed-up"}


def boots(entries: Entries) -> Dict[str, List[Dict[str, Any]]]:
    """Return how each ESP board's starts were judged, in order; see ``boots.Boots``."""
    found: Dict[str, List[Dict[str, Any]]] = {}
    for entry in entries:
        if entry["step"] == "booted":
            facts = {name: entry[name] for name in ("attempt", "of", "log", "accepted", "reason", "verdict")}
            found.setdefault(str(entry["board"]), []).append(facts)
    return found


def power_cycles(entries: Entries) -> Dict[str, int]:
    """Return how often each board was to be switched off and on again."""
    found: Dict[str, int] = {}
    for entry in entries:
        if entry["step"] == "power-cycling":
            found[str(entry["board"])] = found.get(str(entry["board"]), 0) + 1
    return found


def left_off(entries: Entries) -> Set[str]:
    """Return the boards that were to be switched off and were not switched on again since."""
    found: Set[str] = set()
    for entry in entries:
        if entry["step"] == "power-off":
            found.add(str(entry["board"]))
        elif entry["step"] == "power-on":
            found.discard(str(entry["board"]))
    return found


def power_troubles(entries: Entries) -> Dict[str, str]:
    """Return what went wrong when each board was last switched off and on, if anything did."""
    found: Dict[str, str] = {}
    for entry in entries:
        if entry["step"] == "power-cycling":
            found.pop(str(entry["board"]), None)
        elif entry["step"] == "power-failed":
            found[str(entry["board"])] = str(entry["error"])
    return found


def objects_failed(entries: Entries) -> bool:
    """Whether klippy's objects, as they were last looked at, are not as they shall be."""
    found = [entry["step"] for entry in entries if entry["step"] in ("ready", "objects-held", "objects-failed")]
    return found[-1:] == ["objects-failed"]


def prepared(entries: Entries) -> Dict[str, Any]:
    """Return what the host code was found to be before it was moved; empty when it was not prepared."""
    found = [entry for entry in entries if entry["step"] == "prepared"]
    return found[-1] if found else {}


def troubles(entries: Entries) -> List[str]:
    """Return what kept Klipper, or what it serves, from coming back as it shall be, if anything did to the end."""
    found: List[str] = []
    for entry in entries:
        if entry["step"] == "ready":
            found = []
        elif entry["step"] in ("start-failed", "not-ready", "objects-failed"):
            found = [f"after that, {entry['error']}"]
    return found


def downtime(entries: Entries) -> float:
    """Return for how many seconds Klipper was away: from the first stop to the last start.

    Where klippy was asked whether it is ready, it counts as away until it was. From a power cut until the boot settles
    it, nothing counts: no clock of the host knows for how long.
    """
    stops = [place for place, entry in enumerate(entries) if entry["step"] == "stopping"]
    starts = [place for place, entry in enumerate(entries) if entry["step"] in ("starting", "ready")]
    return round(elapsed(entries[stops[0] : starts[-1] + 1]), 2) if stops and starts else 0.0
