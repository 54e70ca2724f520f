"""The lab's network: one bridge on the machine, and per host a namespace whose ``eth0`` is plugged into it."""

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.lab import cgroup, process
from fleetflash.lab.errors import LabError
from fleetflash.lab.layout import NETNS, Layout

_INTERFACES = Path("/sys/class/net")
# Empty, and gone with the next boot of the machine.
_NETNS_LOCK = Path("/run/lock/fleetflash-lab-netns")


@dataclass(frozen=True)
class Link:
    """The cable of one host: a veth pair, or a process that delays packets between two TAP devices."""

    layout: Layout
    host: str
    index: int
    address: str
    delay_ms: float = 0.0

    @property
    def outer(self) -> str:
        return self.layout.link(self.index)

    @property
    def _inner(self) -> str:
        return f"{self.outer}i"  # until it is eth0 in the namespace

    @property
    def _group(self) -> str:
        return self.layout.cgroup(f"link.{self.host}")

    @property
    def _mac(self) -> str:
        # The same after every start, as a network card's is.
        digest = hashlib.sha256(f"{self.layout.name}/{self.host}".encode()).hexdigest()
        return "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))

    def attach(self) -> None:
        """Make the namespace and plug it into the bridge."""
        netns = self.layout.netns(self.host)
        self.detach()
        with _namespaces():
            _ip(f"netns add {netns}")
        if self.delay_ms:
            self._start_delay()
            _ip(f"link set {self._inner} netns {netns}")
            _ip(f"link set {self._inner} name eth0", netns)
        else:
            _ip(f"link add {self.outer} type veth peer name eth0 netns {netns}")
        _ip(
            f"link set lo up\nlink set eth0 address {self._mac}\naddr add {self.address}/24 dev eth0\n"
            f"link set eth0 up\nroute add default via {self.address.rsplit('.', 1)[0]}.1",
            netns,
        )
        _ip(f"link set {self.outer} master {self.layout.bridge} up")

    def lose(self) -> None:
        """Like ``cut``, for a link that may not be there."""
        if (_INTERFACES / self.outer).exists():
            process.attempt("ip", "link", "set", self.outer, "nomaster")

    def detach(self) -> None:
        """Pull the cable and drop the namespace with every connection in it; the peer hears nothing of it."""
        self.lose()
        cgroup.kill(self._group)
        cgroup.remove(self._group)
        if (_INTERFACES / self.outer).exists():
            process.attempt("ip", "link", "del", self.outer)
        netns = self.layout.netns(self.host)
        if (NETNS / netns).exists():
            process.run("ip", "netns", "del", netns)

    def cut(self) -> None:
        """Lose every packet silently, both ways, while both ends still see a carrier."""
        _ip(f"link set {self.outer} nomaster")

    def restore(self) -> None:
        _ip(f"link set {self.outer} master {self.layout.bridge}")

    def _start_delay(self) -> None:
        groups = cgroup.create(self._group)
        log = self.layout.host(self.host) / "link.log"
        command = process.python("-m", "fleetflash.lab.delay", self.outer, self._inner, str(self.delay_ms))
        process.detach(groups, command, log)
        deadline = time.monotonic() + 10
        while not (_INTERFACES / self._inner).exists() or not (_INTERFACES / self.outer).exists():
            if time.monotonic() > deadline:
                raise LabError(f"{self.host}: the delayed link does not come up: {process.tail(log)}")
            time.sleep(0.01)


def check_free(subnet: str) -> None:
    """Raise LabError when the machine has an address in this network."""
    for interface in json.loads(process.run("ip", "-j", "-4", "addr")):
        for address in interface.get("addr_info", ()):
            if str(address.get("local", "")).rsplit(".", 1)[0] == subnet:
                raise LabError(f"subnet {subnet}.0/24 is in use by {interface['ifname']}: choose another --subnet")


def create_bridge(layout: Layout, subnet: str) -> None:
    """The machine's end of the lab, with the address ``subnet``.1."""
    _ip(
        f"link add {layout.bridge} type bridge\naddr add {subnet}.1/24 dev {layout.bridge}\nlink set {layout.bridge} up"
    )


def remove_all(layout: Layout) -> None:
    """Remove every interface and namespace that carries this lab's name."""
    with _namespaces():
        for netns in NETNS.glob(layout.netns("*")):
            process.attempt("ip", "netns", "del", netns.name)
            netns.unlink(missing_ok=True)
        # ``ip netns add`` made this directory and mounted it on itself; nobody undoes that for us.
        if NETNS.is_dir() and not any(NETNS.iterdir()):
            process.attempt("umount", NETNS)
            process.attempt("rmdir", NETNS)
    for interface in _INTERFACES.glob(f"{layout.link(0)[:-1]}*"):
        process.attempt("ip", "link", "del", interface.name)


@contextmanager
def _namespaces() -> Iterator[None]:
    """One lab at a time adds the first or removes the last network namespace."""
    with open(_NETNS_LOCK, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def leftovers(layout: Layout) -> list[str]:
    """Names of this lab's interfaces and namespaces that exist."""
    found = [*NETNS.glob(layout.netns("*")), *_INTERFACES.glob(f"{layout.link(0)[:-1]}*")]
    return sorted(path.name for path in found)


def _ip(batch: str, netns: str = "") -> None:
    process.run("ip", *(("-n", netns) if netns else ()), "-b", "-", stdin=f"{batch}\n")
