"""A moment as the journal keeps it: by the wall clock for people, by the monotonic clock of one boot for arithmetic.

A printer's wall clock jumps: without a battery it starts in the past, and NTP puts it right in the middle of anything.
"""

import time
from pathlib import Path
from typing import Any, Dict, List

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> Dict[str, Any]:
    """Return ``time`` (seconds since 1970), ``monotonic`` (seconds, comparable within one boot) and ``boot``, its id.

    Source: proc(5), /proc/sys/kernel/random: ``boot_id`` is generated once, at boot.
    """
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return {"time": round(time.time(), 3), "monotonic": round(time.monotonic(), 3), "boot": boot}


def elapsed(moments: List[Dict[str, Any]]) -> float:
    """Return the seconds from the first of these moments to the last, in their order, as far as a clock saw them.

    What lies between two boots was seen by none and doesn't count, nor does a moment whose boot is unknown.
    """
    seconds, since, former = 0.0, 0.0, ""
    for moment in moments:
        boot = str(moment.get("boot", ""))
        if boot and boot == former:
            seconds += float(moment["monotonic"]) - since
        since, former = float(moment.get("monotonic", 0.0)), boot
    return seconds
