"""How DTR and RTS are wired to a chip's reset and BOOT0, and the sequences that use it.

A wiring is ``reset=LINE:LEVEL,boot=LINE:LEVEL``: the level (1 = asserted) of DTR or RTS at which the chip is held in
reset, and the level at which BOOT0 is high.
"""

import itertools
from typing import List, Tuple

from fleetflash.agent.port import LineStep

#: The usual wiring of a BMCU-C first.
ALL_WIRINGS = [
    f"reset={reset}:{reset_level},boot={boot}:{boot_level}"
    for (reset, boot), reset_level, boot_level in itertools.product((("rts", "dtr"), ("dtr", "rts")), (0, 1), (0, 1))
]


def entry_sequence(wiring: str) -> List[LineStep]:
    """Return the DTR/RTS steps that reset a chip with BOOT0 raised, then let go of both.

    Raises ``ValueError`` for what is no wiring.
    """
    reset_line, reset_level, boot_line, boot_level = _parse(wiring)

    def levels(reset: bool, boot: bool) -> Tuple[bool, bool]:
        lines = {reset_line: reset_level == reset, boot_line: boot_level == boot}
        return lines["dtr"], lines["rts"]

    return [
        (*levels(reset=False, boot=True), 0.01),
        (*levels(reset=True, boot=True), 0.02),
        (*levels(reset=False, boot=True), 0.05),
        # A chip that these last levels hold in reset, through its filter, must not answer before they do.
        (*levels(reset=False, boot=False), 0.02),
    ]


def reset_sequence(wiring: str) -> List[LineStep]:
    """Return the DTR/RTS steps that reset a chip into its application; ``wiring`` as for ``entry_sequence``."""
    reset_line, reset_level, _, boot_level = _parse(wiring)

    def levels(reset: bool) -> Tuple[bool, bool]:
        held, idle = reset_level == reset, not boot_level
        return (held, idle) if reset_line == "dtr" else (idle, held)

    return [(*levels(reset=True), 0.02), (*levels(reset=False), 0.0)]


def _parse(wiring: str) -> Tuple[str, bool, str, bool]:
    try:
        parts = dict(item.split("=") for item in wiring.split(","))
        reset_line, reset_level = parts["reset"].split(":")
        boot_line, boot_level = parts["boot"].split(":")
        if {reset_line, boot_line} != {"dtr", "rts"} or not {reset_level, boot_level} <= {"0", "1"}:
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(f"wiring {wiring!r}: expected e.g. 'reset=rts:0,boot=dtr:0'") from None
    return reset_line, reset_level == "1", boot_line, boot_level == "1"
