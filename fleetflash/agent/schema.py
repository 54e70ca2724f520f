"""What the controller asks of an agent, and what it gets back: the only types that both sides share.

Every type is a plain dataclass that survives a round trip through JSON (``to_json``, ``from_json``), so that a
transaction on a host's disk can be read with any editor.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from fleetflash.agent.acceptance.contract import Contract, Retry
from fleetflash.agent.as_json import SchemaError, from_json, to_json
from fleetflash.agent.observed import (
    HOST_CODE,
    STATE,
    UNIT,
    BoardFacts,
    CheckoutFacts,
    CheckoutProbe,
    Firmware,
    Hold,
    Holder,
    Image,
    LedgerEntry,
    McuSection,
    Past,
    PortFacts,
    Probe,
    ServiceFacts,
    Snapshot,
    SnapshotRequest,
    TransactionFacts,
)

__all__ = [
    "API",
    "ELF_SHA256",
    "HOST_CODE",
    "PLACEMENTS",
    "STATE",
    "UNFINISHED",
    "UNIT",
    "Backup",
    "BoardFacts",
    "BoardTransaction",
    "Bundle",
    "CheckoutFacts",
    "CheckoutProbe",
    "Entry",
    "Evidence",
    "EvidenceRequest",
    "Excerpt",
    "Firmware",
    "Hold",
    "Holder",
    "HostCode",
    "Image",
    "LedgerEntry",
    "McuSection",
    "ObjectCheck",
    "Past",
    "PortFacts",
    "Power",
    "Probe",
    "Retention",
    "SchemaError",
    "ServiceFacts",
    "Snapshot",
    "SnapshotRequest",
    "Transaction",
    "TransactionFacts",
    "from_json",
    "to_json",
]

#: ``Firmware.source`` of a gateway that told its version through the network.
API = "api"
#: The constant of an ESP image that its boot log tells the beginning of.
ELF_SHA256 = "elf_sha256"

#: What the ledger says of a board from its first erased byte until its next commit or restore.
UNFINISHED = "unfinished"

#: Where a flash protocol's code runs.
PLACEMENTS = ("host", "controller")


@dataclass(frozen=True)
class Entry:
    """How a board gets into its bootloader.

    ``method``: ``lines`` (DTR and RTS, see ``wiring``), ``request`` (the running firmware is asked), ``button`` (a
    person) or ``none`` (it is always there).
    ``wiring``: e.g. ``reset=rts:0,boot=dtr:0``; empty means: try all eight combinations.
    ``deadline``: seconds that a person gets.
    """

    method: str
    wiring: str = ""
    gesture: str = ""
    deadline: float = 120.0


@dataclass(frozen=True)
class EvidenceRequest:
    """What to gather of a host, mostly after a failure.

    ``transaction``: which one; empty means the newest. ``service`` and ``socket``: as in ``SnapshotRequest``.
    ``ports``: the names of its boards' ports, for the kernel's log. ``logs``: whether to read logs and the
    transaction's record at all. ``moonraker``: the port of its HTTP server; 0 where there is none.
    """

    transaction: str = ""
    service: str = "klipper.service"
    socket: str = ""
    ports: List[str] = field(default_factory=list)
    logs: bool = True
    moonraker: int = 7125


@dataclass(frozen=True)
class Excerpt:
    """The last lines of a log. ``source``: the file or the command; ``error``: why there are none."""

    source: str
    lines: List[str] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a host can tell of itself and of one of its transactions; nothing in it is free of secrets.

    ``environment``: Python, operating system, kernel, load and the like. ``versions``: program → version, or why there
    is none. ``moonraker``: the state that it reports of klippy, or ``error``. ``record``: the transaction and its
    outcome as they lie on the host; ``journal``: its steps. ``logs``: name → excerpt.
    """

    hostname: str
    environment: Dict[str, str]
    versions: Dict[str, str]
    moonraker: Dict[str, str] = field(default_factory=dict)
    transaction: str = ""
    record: Dict[str, Any] = field(default_factory=dict)
    journal: List[Dict[str, Any]] = field(default_factory=list)
    logs: Dict[str, Excerpt] = field(default_factory=dict)


@dataclass(frozen=True)
class Power:
    """How a board is switched off and on again; one of ``device``, ``command`` and ``gesture`` is set.

    ``device``: a power device of the host's Moonraker, which listens on ``port``. ``command``: a program and its
    arguments, which gets ``off`` or ``on`` as the last. ``gesture``: what a person is asked to do. ``seconds``: what
    each switching, or the person, may take.
    """

    device: str = ""
    port: int = 7125
    command: List[str] = field(default_factory=list)
    gesture: str = ""
    seconds: float = 20.0


@dataclass(frozen=True)
class ObjectCheck:
    """What klippy must say of one of its objects.

    ``field``: dots lead into it, e.g. ``last_stats.freq``. It must be a number from ``minimum`` to ``maximum``; where
    neither is set, it must be ``equals``.
    """

    object: str
    field: str
    equals: Any = None
    minimum: Optional[float] = None
    maximum: Optional[float] = None


@dataclass(frozen=True)
class Region:
    """A partition that is to be erased: ``size`` bytes from ``offset`` on, counted from the start of flash."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class BoardTransaction:
    """One board of a transaction.

    ``chip_ids`` are what the bootloader of such a chip may answer, in the programmer's own notation.
    ``flash_base`` is the absolute address of the chip's flash, ``flash_offset`` where in it the application belongs,
    and ``flash_size`` how many bytes it may have there. ``by_path`` leads to the port when its own name is gone.
    ``expected`` is what the plan saw: the agent refuses when the board has changed since. ``uid`` is empty while the
    board has not been met before. ``read_back``: no known-good image is at hand, so what the board runs is read before
    the first erase and is its way back. ``tool``: its programmer is a program, which the controller runs where it has
    the placement. ``way_back`` is ``None`` only then, or when the user accepted that there is none. ``options`` are
    what its programmer alone knows. ``backup_command``: program and arguments of the user's, which must succeed within
    ``backup_seconds`` before the board is written; empty: none. ``contract``: what ``wanted`` must say when it boots,
    on a board with that ``equipment``. ``power``: how it is switched off and on when it does not come back. ``checks``:
    what klippy must say once it is written. ``erase``: what of its flash must read as erased once it is written.
    """

    name: str
    port: str
    device: str
    chip: str
    chip_ids: List[str]
    flash_size: int
    programmer: str
    entry: Entry
    expected: Firmware
    wanted: Image
    way_back: Optional[Image]
    klippy_mcu: Optional[str] = None
    uid: str = ""
    baud: int = 250000
    placement: str = "host"
    unprotect: bool = False
    flash_base: int = 0
    flash_offset: int = 0
    by_path: str = ""
    read_back: bool = False
    tool: bool = False
    options: Dict[str, str] = field(default_factory=dict)
    backup_command: List[str] = field(default_factory=list)
    backup_seconds: float = 120.0
    contract: Optional[Contract] = None
    equipment: Dict[str, str] = field(default_factory=dict)
    power: Optional[Power] = None
    checks: List[ObjectCheck] = field(default_factory=list)
    erase: List[Region] = field(default_factory=list)

    @property
    def lends_tool(self) -> bool:
        """Whether the host leads the tool that the controller runs."""
        return self.tool and self.placement == "controller"

    @property
    def retry(self) -> Retry:
        """How often a rejected boot is tried again; not at all without a contract."""
        return self.contract.retry if self.contract else Retry()

    @property
    def host_writes(self) -> bool:
        """Whether the host needs the image that is to be written."""
        return self.tool or self.placement == "host"


@dataclass(frozen=True)
class Backup:
    """The record of what a board ran at some time; its bytes are kept by their sha256.

    ``kind``: ``read-back``, or ``known-good`` for a registered image that the board is known to have run. It belongs to
    the chip with that ``uid`` (empty where none is known) alone. ``taken_at``: see ``Transaction.started_at``.
    """

    board: str
    kind: str
    image: Image
    chip: str
    uid: str
    flash_offset: int
    transaction: str
    reason: str
    taken_at: float


@dataclass(frozen=True)
class Retention:
    """How many backups are kept of each board, and for how many days.

    ``pins``: the versions that the inventory names; what they mean is kept.
    """

    keep: int = 5
    days: float = 365.0
    pins: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bundle:
    """Commits that the host lacks, as git-bundle(1) packs them. ``tag``: names the wanted commit, or is empty."""

    sha256: str
    size: int
    tag: str = ""


@dataclass(frozen=True)
class HostCode:
    """Klipper's own code: the checkout at ``path``, of ``user``, moves from one commit to another.

    ``bundle``: ``None`` when the host has the wanted commit already.
    """

    path: str
    user: str
    python: str
    former: str
    wanted: str
    bundle: Optional[Bundle] = None


@dataclass(frozen=True)
class Transaction:
    """All boards of one Klipper host, written while Klipper is stopped once.

    ``service`` is empty where there is no Klipper; ``was_active`` and ``was_ready`` say what it must return to.
    ``policy``: ``exact`` (boards go back together) or ``compatible`` (each stands for itself). ``restore_seconds``: the
    plan's estimate of a restore. ``host_code``: moves and goes back together with the boards; only with ``exact``.
    ``holds``: this is a rollback, which leaves these behind once it is committed; also for boards that were there
    before.
    ``backup_only``: boards are read, and none is written; ``wanted`` then is what each must still say that it runs.
    ``reason``: why somebody wanted that. ``started_at``: seconds since 1970 by the controller's clock, since a
    printer's may be anything; 0: unknown. ``retention``: of the boards' backups. ``checks``: what klippy must say
    within ``checks_seconds`` after it is ready, beside the boards' own ``checks``.
    """

    id: str
    controller: str
    boards: List[BoardTransaction]
    service: str
    socket: str
    was_active: bool
    was_ready: bool
    policy: str
    restore_seconds: float
    ready_seconds: float = 60.0
    host_code: Optional[HostCode] = None
    holds: Dict[str, Hold] = field(default_factory=dict)
    backup_only: bool = False
    reason: str = ""
    started_at: float = 0.0
    retention: Retention = field(default_factory=Retention)
    checks: List[ObjectCheck] = field(default_factory=list)
    checks_seconds: float = 30.0
