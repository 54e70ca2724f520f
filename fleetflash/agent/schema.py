"""What the controller asks of an agent, and what it gets back: the only types that both sides share.

Every type is a plain dataclass that survives a round trip through JSON (``to_json``, ``from_json``), so that a
transaction on a host's disk can be read with any editor.
"""

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple, Type, TypeVar, Union, get_type_hints

from fleetflash.agent.acceptance.contract import Contract, Retry

T = TypeVar("T")

#: Everything that fleetflash keeps on a host lies here, root-owned.
STATE = "/var/lib/fleetflash"
#: The transient unit under which a transaction runs. Its name is the host's lock.
UNIT = "fleetflash.service"
#: ``Firmware.source`` of a gateway that told its version through the network.
API = "api"
#: The constant of an ESP image that its boot log tells the beginning of.
ELF_SHA256 = "elf_sha256"

#: What Klipper's own code is called among the boards of a transaction; no board can have a name with a blank.
HOST_CODE = "host code"
#: What the ledger says of a board from its first erased byte until its next commit or restore.
UNFINISHED = "unfinished"

#: Where a flash protocol's code runs.
PLACEMENTS = ("host", "controller")


class SchemaError(Exception):
    """A message lacks a field, or carries one of the wrong type."""


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
class Probe:
    """A board that a snapshot looks for.

    ``quiet``: seconds of silence that it needs after its port was opened, since that resets it. ``moves``: whether it
    has another by-id name in its bootloader. ``klipper``: whether it runs Klipper and so can be asked what it runs.
    ``connection``: how it is reached, see ``protocols.port_names``.
    """

    name: str
    port: str
    klippy_mcu: Optional[str] = None
    baud: int = 250000
    quiet: float = 0.0
    moves: bool = False
    klipper: bool = True
    connection: str = "serial"


@dataclass(frozen=True)
class CheckoutProbe:
    """The git checkout of Klipper's code, and the commit that it shall be at.

    ``path``: ``~`` is the home of the service's user; empty means ``~/klipper``.
    """

    path: str
    commit: str


@dataclass(frozen=True)
class SnapshotRequest:
    """Which service and boards to look at.

    An empty ``service``: the host has no Klipper. An empty ``socket`` means the place where KIAUH puts klippy's.
    ``checkout``: ``None`` where nobody wants to know which code klippy runs.
    """

    boards: List[Probe]
    service: str = "klipper.service"
    socket: str = ""
    checkout: Optional[CheckoutProbe] = None


@dataclass(frozen=True)
class Holder:
    """A process that has a port open."""

    pid: int
    command: str


@dataclass(frozen=True)
class PortFacts:
    """A serial device. ``usb`` is what makes up its by-id name: equal for boards without a serial number."""

    device: str
    by_id: List[str]
    by_path: List[str]
    usb: str = ""
    holders: List[Holder] = field(default_factory=list)


@dataclass(frozen=True)
class Firmware:
    """What a board says that it runs.

    ``source``: ``klippy`` (asked while Klipper runs), ``identify`` (asked on the port), ``boot-log`` (heard while it
    started), ``api`` (the controller asked it through the network), ``unasked`` (somebody else has the port, or asking
    would disturb it) or ``none`` (it does not answer); ``error`` says why.
    """

    source: str
    version: str = ""
    build_versions: str = ""
    constants: Dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class LedgerEntry:
    """What the last committed transaction left on a board, and which board that was.

    ``artifact``, ``image_sha256`` and ``version`` are empty while the board has only been met, as for a backup.
    ``uid``: the chip's unique id, empty where its bootloader tells none; ``by_path``: the place of its port.
    """

    artifact: str
    image_sha256: str
    version: str
    transaction: str
    chip: str = ""
    uid: str = ""
    committed_at: float = 0.0
    by_path: str = ""


@dataclass(frozen=True)
class Hold:
    """What a rollback leaves on a host: nothing else is written to this board until somebody lifts it.

    ``image_sha256``: the image that the board was brought to; of the host code, its commit. ``target``: what was asked
    for, ``previous``, ``known-good``, ``factory`` or ``pin``. ``since``: when it was committed, by the host's clock.
    """

    image_sha256: str
    version: str
    target: str
    transaction: str
    controller: str
    since: float = 0.0


@dataclass(frozen=True)
class BoardFacts:
    """``device`` is the resolved port, or empty; ``candidates`` are all devices that answer to the port's name.

    ``klippy_device``: the device that klippy uses for the board's ``klippy_mcu``, or empty. ``uid``: the unique id of a
    board that is on USB itself. ``moved``: the port's own name is gone, and ``device`` is where the board is now.
    """

    name: str
    device: str
    candidates: List[str]
    firmware: Firmware
    ledger: Optional[LedgerEntry] = None
    klippy_device: str = ""
    uid: str = ""
    moved: bool = False


@dataclass(frozen=True)
class ServiceFacts:
    """systemd's view of the Klipper service and klippy's view of the printer.

    ``active``: ``active``, ``inactive``, ``failed``, ``activating``, ``deactivating``, ``absent``, ``unknown``, or
    ``none`` on a host that is to have no Klipper.
    ``klippy``: ``ready``, ``startup``, ``shutdown``, ``error``, or empty when it could not be asked
    (``error`` says why).
    ``print_state``: klippy's ``print_stats.state``, or empty; ``paused``: from ``pause_resume``.
    """

    unit: str
    active: str
    main_pid: int = 0
    user: str = ""
    socket: str = ""
    klippy: str = ""
    print_state: str = ""
    paused: bool = False
    error: str = ""


@dataclass(frozen=True)
class CheckoutFacts:
    """Klipper's code on the host: a git checkout, or ``error`` says why it can't be taken for one.

    ``version``: as klippy would report it; ``running``: as klippy does report it, empty when it can't be asked.
    ``branch``: empty when HEAD is detached. ``dirty``: tracked files that differ from the commit. ``present``: the
    wanted commit is on the host already. ``python``: the interpreter that klippy runs in.
    """

    path: str
    user: str
    commit: str = ""
    version: str = ""
    branch: str = ""
    remote: str = ""
    dirty: List[str] = field(default_factory=list)
    present: bool = False
    running: str = ""
    python: str = ""
    error: str = ""


@dataclass(frozen=True)
class TransactionFacts:
    """The newest transaction on the host.

    ``outcome`` is empty while it is unfinished; ``reported`` says whether a controller has followed it to its end.
    """

    id: str
    outcome: str
    running: bool
    reported: bool = True
    detail: str = ""
    controller: str = ""
    ended_at: float = 0.0
    boards: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class McuSection:
    """An ``[mcu]`` section of klippy's configuration: its name as klippy says it, its port and baud rate.

    ``serial``: the device, or for a board on a CAN bus interface and uuid, as in ``protocols.port_names``.
    """

    name: str
    serial: str
    baud: int
    firmware: Firmware


@dataclass(frozen=True)
class Snapshot:
    """All that a plan needs to know of a host.

    ``sudo``, ``systemd`` and ``esptool`` are empty when fine, else say what is wrong. ``holds``: board (or host code) →
    what keeps it. ``lineages``: board (or host code) → what it ran, newest first. ``leftovers``: what a transaction
    that died has left, one line each.
    """

    hostname: str
    python: str
    sudo: str
    systemd: str
    disk_free: int
    service: ServiceFacts
    ports: List[PortFacts]
    boards: Dict[str, BoardFacts]
    transaction: Optional[TransactionFacts] = None
    needs_attention: Dict[str, str] = field(default_factory=dict)
    sections: List[McuSection] = field(default_factory=list)
    esptool: str = ""
    checkout: Optional[CheckoutFacts] = None
    holds: Dict[str, Hold] = field(default_factory=dict)
    lineages: "Dict[str, List[Past]]" = field(default_factory=dict)
    leftovers: List[str] = field(default_factory=list)


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
class Image:
    """Firmware that lies on the host by its hash, with what its board must say once it runs.

    ``klipper`` is false for other firmware. ``esp``: an ESP chip's, which says in its boot log what it is, if anything.
    A board that says nothing is believed by its bootloader's verify.
    """

    artifact: str
    sha256: str
    size: int
    version: str
    build_versions: str = ""
    constants: Dict[str, Any] = field(default_factory=dict)
    klipper: bool = True
    esp: bool = False


@dataclass(frozen=True)
class Past:
    """Firmware that a board has, or had: committed by ``transaction``, or found on it when that is empty.

    Of the host code, ``image.sha256`` is a commit. ``on_disk``: the image lies on the host.
    """

    image: Image
    transaction: str = ""
    at: float = 0.0
    on_disk: bool = False


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


def to_json(value: Any) -> Any:
    """Return dataclasses as plain JSON values."""
    return dataclasses.asdict(value)


def from_json(kind: Type[T], value: Any, where: str = "") -> T:
    """Build ``kind`` from plain JSON values, checked field by field.

    Raises ``SchemaError`` naming the path of the field that is missing, unknown or of the wrong type.
    """
    return _build(kind, value, where or kind.__name__)  # type: ignore[no-any-return]


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin = getattr(kind, "__origin__", None)
    arguments: Tuple[Any, ...] = getattr(kind, "__args__", ())
    if kind is Any:
        return value
    if origin is Union:
        if value is None and type(None) in arguments:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _build(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SchemaError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r}")


@functools.lru_cache(maxsize=None)
def _hints(kind: Any) -> Dict[str, Any]:
    return get_type_hints(kind)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise SchemaError(f"{where}: expected an object, found {value!r}")
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise SchemaError(f"{where}: unknown field {unknown[0]!r}")
    built = {}
    for name, definition in fields.items():
        if name in value:
            built[name] = _build(hints[name], value[name], f"{where}.{name}")
        elif definition.default is dataclasses.MISSING and definition.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{where}: field {name!r} is missing")
    return kind(**built)
