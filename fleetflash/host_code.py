"""Klipper's own code beside its boards, with policy ``exact``: is it what it shall be, and may it be moved? No I/O."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fleetflash.agent.schema import CheckoutFacts

#: Moving the checkout, or taking it back, on a Raspberry Pi, in seconds.
MOVE_SECONDS = 10.0
#: Files that are named before the rest is only counted.
NAMED = 3


@dataclass(frozen=True)
class WantedCode:
    """The commit that a host's code shall be at, and ``version``, how git describes it.

    ``mirror``: the controller's copy of ``repository``. ``foreign``: the host's commit is none of that repository's.
    ``present``: the host has the wanted commit already. ``problem``: why the wanted commit can't be had.
    """

    repository: str
    commit: str = ""
    version: str = ""
    mirror: Path = Path()
    foreign: bool = False
    present: bool = False
    problem: str = ""


class Verdict(StrEnum):
    CURRENT = "current"
    MOVE = "move"
    REFUSE = "refuse"


def judge(wanted: WantedCode, found: CheckoutFacts | None) -> tuple[Verdict, str]:
    """Return what is to be done with a host's code, and why. What isn't in a commit of the repository is never left."""
    if wanted.problem:
        return Verdict.REFUSE, wanted.problem
    if found is None:
        return Verdict.REFUSE, "the host has no Klipper whose code could be moved; take klipper_version away"
    if found.error:
        return Verdict.REFUSE, found.error
    if found.dirty:
        files = ", ".join(found.dirty[:NAMED]) + (f" and {len(found.dirty) - NAMED} more" * (len(found.dirty) > NAMED))
        return Verdict.REFUSE, f"{found.path} has uncommitted changes ({files}); commit or stash them, then run again"
    if found.commit != wanted.commit:
        if wanted.foreign:
            return Verdict.REFUSE, (
                f"{found.path} is at {found.version}, which {wanted.repository} does not have; check out a commit of "
                "that repository, or correct klipper_repository"
            )
        return Verdict.MOVE, ""
    if found.running and found.running != found.version:
        return Verdict.MOVE, f"klippy still runs {found.running}"
    return Verdict.CURRENT, ""
