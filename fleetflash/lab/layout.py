"""Where a lab keeps its files, and what its kernel objects are called.

Everything a lab makes carries a name derived from the lab's, so that ``down`` finds it again without any
record, and two labs never touch each other. Interface names have at most 15 characters, hence ``tag``; host
names never contain a dot, hence the dots in namespace and cgroup names.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab.errors import LabError

STATE = Path("/var/lib/fleetflash-lab")
NETNS = Path("/run/netns")
# systemd-nspawn makes a directory per machine here, and leaves it when it is killed.
PROPAGATE = Path("/run/systemd/nspawn/propagate")
_LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")
_HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
_BOARD_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")
# Without leading zeros, which some take for octal numbers.
_SUBNET = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})")


@dataclass(frozen=True)
class Layout:
    """Names and paths of one lab."""

    name: str

    def __post_init__(self) -> None:
        if not _LAB_NAME.fullmatch(self.name):
            raise LabError(f"lab name {self.name!r}: use up to 16 of a-z, 0-9 and -, a letter first")

    @property
    def root(self) -> Path:
        return STATE / self.name

    @property
    def record(self) -> Path:
        return self.root / "lab.json"

    @property
    def key(self) -> Path:
        return self.root / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def host(self, host: str) -> Path:
        return self.root / "hosts" / host

    def board(self, host: str, board: str) -> Path:
        return self.host(host) / f"board-{board}"

    @property
    def tag(self) -> str:
        """The lab's name if it is short and free of dashes, else six digits of its hash."""
        if len(self.name) <= 6 and "-" not in self.name:
            return self.name
        return hashlib.sha256(self.name.encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        return f"ff{self.tag}-br"

    def link(self, index: int) -> str:
        return f"ff{self.tag}-{index}"

    def netns(self, host: str) -> str:
        return f"ff.{self.name}.{host}"

    def machine(self, host: str) -> str:
        """The name that systemd-nspawn knows the host by."""
        return f"ff.{self.name}.{host}"

    def cgroup(self, *parts: str) -> str:
        return "/".join((f"fleetflash-{self.name}", *parts))


def check_host_name(name: str) -> None:
    if not _HOST_NAME.fullmatch(name):
        raise LabError(f"host name {name!r}: use up to 24 of a-z, 0-9 and -, a letter first")


def check_board_name(name: str) -> None:
    if not _BOARD_NAME.fullmatch(name):
        raise LabError(f"board name {name!r}: use up to 16 of a-z, 0-9 and -, a letter first")


def check_subnet(subnet: str) -> None:
    match = _SUBNET.fullmatch(subnet)
    if not match or any(int(part) > 255 for part in match.groups()):
        raise LabError(f"subnet {subnet!r}: give the first three numbers of a /24, such as 10.77.0")
