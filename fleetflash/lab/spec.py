"""What a lab shall consist of: hosts and the boards at their USB sockets. Plain data, kept as JSON."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class BoardSpec:
    """A simulated board; ``kind`` is one of ``fleetflash.lab.boards.kinds``.

    ``kind`` is a subcommand of ``fleetflash board``: ``bmcu-c``, or ``esp32``, ``esp32s3``, ``esp32c3`` with a MAC
    address as ``uid``. ``mcu`` is the name klippy's configuration gives it, empty for a board that is not klippy's;
    ``socket`` its USB socket (counted from 1; by default its place in the host's list). ``entry`` says whether DTR
    and RTS reach its bootloader or a person must press. ``options`` goes to the simulator as it is; ``command``
    replaces the simulator (used by tests).
    """

    name: str
    mcu: str = "mcu"
    kind: str = "bmcu-c"
    entry: str = "auto"
    uid: str = ""
    socket: int = 0
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostSpec:
    """A printer host; ``delay_ms`` is the round-trip time that its link adds.

    ``bare``: a fresh Debian with an SSH login; no Klipper, no Moonraker, and nobody but root may open serial ports.
    """

    name: str
    boards: tuple[BoardSpec, ...] = ()
    delay_ms: float = 0.0
    bare: bool = False


@dataclass(frozen=True)
class LabSpec:
    """A whole lab: hosts get the addresses ``subnet``.11 and up, in order."""

    hosts: tuple[HostSpec, ...]
    subnet: str = "10.77.0"
    base: str = field(default="", metadata={"help": "the root file system below the hosts' overlays"})

    def address(self, host: str) -> str:
        return f"{self.subnet}.{11 + self.index(host)}"

    def index(self, host: str) -> int:
        return next(number for number, spec in enumerate(self.hosts) if spec.name == host)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LabSpec":
        hosts = tuple(
            HostSpec(
                name=host["name"],
                boards=tuple(_board(board) for board in host["boards"]),
                delay_ms=host["delay_ms"],
                bare=host.get("bare", False),
            )
            for host in data["hosts"]
        )
        return cls(hosts=hosts, subnet=data["subnet"], base=data["base"])


def _board(data: dict[str, Any]) -> BoardSpec:
    return BoardSpec(**{**data, "options": tuple(data["options"]), "command": tuple(data["command"])})


def board_uid(host: str, board: str) -> str:
    """A chip id of 8 bytes that is always the same for this board and no other board has."""
    return hashlib.sha256(f"{host}/{board}".encode()).hexdigest()[:16]
