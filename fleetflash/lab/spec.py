"""What a lab shall consist of: hosts and the boards at their USB sockets. Plain data, kept as JSON."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

_OPEN = re.compile(r"\{([a-z0-9:-]+)\}")


@dataclass(frozen=True)
class BoardSpec:
    """A simulated board; ``kind`` is one of ``fleetflash.lab.boards.kinds``.

    ``kind`` is a subcommand of ``fleetflash board``: ``bmcu-c``, or ``esp32``, ``esp32s3``, ``esp32c3`` with a MAC
    address as ``uid``. ``mcu`` is the name klippy's configuration gives it, empty for a board that is not klippy's;
    ``socket`` its USB socket (counted from 1; by default its place in the host's list). ``entry`` says whether DTR
    and RTS reach its bootloader or a person must press. ``options`` goes to the simulator as it is; ``command``
    replaces the simulator (used by tests). In options, ``{bridge}`` is the address of the machine in the lab's network,
    ``{directory}`` the board's own, and ``{address:HOST}`` the address of a host.
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
    ``units``: what systemd starts besides, such as the broker ``mosquitto.service``.
    """

    name: str
    boards: tuple[BoardSpec, ...] = ()
    delay_ms: float = 0.0
    bare: bool = False
    units: tuple[str, ...] = ()


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

    def placed(self, directory: Callable[[str, str], Path]) -> "LabSpec":
        """Return the spec with the boards' options filled in. ``directory``: that of a board, by host and name."""

        def fill(host: HostSpec, board: BoardSpec) -> BoardSpec:
            known = {"bridge": f"{self.subnet}.1", "directory": str(directory(host.name, board.name))}
            known |= {f"address:{other.name}": self.address(other.name) for other in self.hosts}
            options = tuple(_OPEN.sub(lambda found: known.get(found[1], found[0]), option) for option in board.options)
            return replace(board, options=options)

        hosts = [replace(host, boards=tuple(fill(host, board) for board in host.boards)) for host in self.hosts]
        return replace(self, hosts=tuple(hosts))

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
                units=tuple(host.get("units", ())),
            )
            for host in data["hosts"]
        )
        return cls(hosts=hosts, subnet=data["subnet"], base=data["base"])


def _board(data: dict[str, Any]) -> BoardSpec:
    return BoardSpec(**{**data, "options": tuple(data["options"]), "command": tuple(data["command"])})


def board_uid(host: str, board: str) -> str:
    """A chip id of 8 bytes that is always the same for this board and no other board has."""
    return hashlib.sha256(f"{host}/{board}".encode()).hexdigest()[:16]
