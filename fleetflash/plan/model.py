"""What planning is about: what it knows, and what it decides for a board and for a host."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.schema import Firmware, Hold, Image, Region, Transaction, TransactionFacts
from fleetflash.boards import Board
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.chips import Chip
from fleetflash.firmware.partition import Partition


class Action(StrEnum):
    FLASH = "flash"
    NONE = "none"
    REFUSE = "refuse"
    DEFER = "defer"
    HOLD = "hold"
    WAITING = "waiting"
    BACK_UP = "back up"
    UNREADABLE = "unreadable"
    OFFLINE = "offline"


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


@dataclass(frozen=True)
class BoardPlan:
    """What is to be done with one board, and why.

    ``backup``: ``read-back`` when the old firmware can be read, ``known-good only`` when it can't and an image of it is
    registered, ``none`` when neither is so. ``uid`` and ``place`` (a by-path name): by what the board is known.
    ``code``: this is no board but Klipper's own code, and ``device`` its checkout. ``image``: ``wanted`` is known from
    the host alone, as this. ``reading``: bytes that may be read back from it. ``erase``: partitions that are erased,
    too.
    """

    name: str
    action: Action
    reason: str = ""
    board: Board | None = None
    chip: Chip | None = None
    device: str = ""
    running: Firmware = Firmware(source="none")
    wanted: Artifact | None = None
    way_back: Artifact | None = None
    way_back_kind: str = ""
    backup: str = ""
    uid: str = ""
    placement: str = "host"
    place: str = ""
    seconds: float | None = None
    code: WantedCode | None = None
    image: Image | None = None
    reading: int = 0
    contract: Contract | None = None
    erase: tuple[Region, ...] = ()


@dataclass(frozen=True)
class HostPlan:
    """All decisions for one host. ``transaction`` is ``None`` when nothing is to be written.

    ``holds``: what a rollback leaves on the host. ``lifts``: boards whose hold the inventory has caught up with.
    """

    host: str
    boards: tuple[BoardPlan, ...]
    transaction: Transaction | None = None
    downtime: float | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unreported: TransactionFacts | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    lifts: tuple[str, ...] = ()

    def actions(self, *actions: Action) -> list[BoardPlan]:
        return [board for board in self.boards if board.action in actions]


@dataclass(frozen=True)
class Catalogue:
    """The artifacts that the controller has: ``resolve`` finds a pinned one or raises ``FirmwareError``.

    ``contracts``: board name → what its boot log must hold, or why that can't be read. ``partitions``: those of an
    artifact's own partition table; raises ``FirmwareError``.
    """

    artifacts: Sequence[Artifact]
    resolve: Callable[[str, object, str], Artifact]
    contracts: Mapping[str, Contract | str] = field(default_factory=dict)
    partitions: Callable[[Artifact], Sequence[Partition]] = lambda artifact: ()


@dataclass(frozen=True)
class Identity:
    """Who plans: the transaction's id, and the controller's name for the host's record.

    ``esptool``: why the controller can't run esptool; empty when it can. ``now``: seconds since 1970.
    """

    transaction: str
    controller: str
    esptool: str = ""
    now: float = 0.0


def offline(host: str, reason: str) -> HostPlan:
    """The plan for a host that can't be asked."""
    return HostPlan(host, (BoardPlan("-", Action.OFFLINE, reason),))


def unusable(host: str, reason: str) -> HostPlan:
    """The plan for a host whose own data can't be read."""
    return HostPlan(host, (BoardPlan("-", Action.REFUSE, reason),))


def hold_back(plan: HostPlan, reason: str) -> HostPlan:
    """Return the plan with everything that would be flashed or read deferred to a later run."""
    held = plan.actions(Action.FLASH, Action.BACK_UP)
    boards = tuple(
        dataclasses.replace(board, action=Action.DEFER, reason=reason) if board in held else board
        for board in plan.boards
    )
    return dataclasses.replace(plan, boards=boards, transaction=None, downtime=None, artifacts={}, holds={}, lifts=())
