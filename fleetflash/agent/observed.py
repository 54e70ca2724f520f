"""What a controller asks of a host before it decides, and what it gets back.

Apart from the rest of ``schema``: a host makes these anew for every look at it, beside a running print.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

#: Everything that fleetflash keeps on a host lies here, root-owned.
STATE = "/var/lib/fleetflash"
#: The transient unit under which a transaction runs. Its name is the host's lock.
UNIT = "fleetflash.service"
#: What Klipper's own code is called among the boards of a transaction; no board can have a name with a blank.
HOST_CODE = "host code"


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
    ``klippy``: ``ready``, ``startup`` (also of one that hangs before it opens its socket), ``shutdown``, ``error``, or
    empty when it could not be asked (``error`` says why).
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
    lineages: Dict[str, List[Past]] = field(default_factory=dict)
    leftovers: List[str] = field(default_factory=list)
